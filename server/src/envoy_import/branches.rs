//! The ways through the tree, for descriptors with the same keys, by falling precedence.

use std::collections::BTreeSet;

use super::file::Node;

/// An entry on a way.
#[derive(Clone, Debug)]
pub(super) struct Step<'t> {
    /// The entry.
    pub(super) node: &'t Node,
    /// Where it stands.
    pub(super) path: String,
}

/// A way: to a limit, or to where the tree ends without one.
#[derive(Clone, Debug)]
pub(super) struct Branch<'t> {
    /// The entries; fewer than keys where the tree ends before.
    pub(super) steps: Vec<Step<'t>>,
    /// Whether it ends at a limit.
    pub(super) is_limit: bool,
}

/// Which values an entry stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values<'t> {
    /// This one.
    One(&'t str),
    /// Those that begin so.
    Beginning(&'t str),
    /// All.
    Any,
}

impl Node {
    /// Which values it stands for.
    pub(super) fn values(&self) -> Values<'_> {
        match self.value.strip_suffix('*') {
            Some(beginning) => Values::Beginning(beginning),
            None if self.value.is_empty() => Values::Any,
            None => Values::One(&self.value),
        }
    }

    fn precedence(&self) -> u8 {
        match self.values() {
            Values::One(_) => 0,
            Values::Beginning(_) => 1,
            Values::Any => 2,
        }
    }
}

impl Values<'_> {
    /// Whether a value may fit both.
    fn may_meet(self, other: Self) -> bool {
        match (self, other) {
            (Values::Any, _) | (_, Values::Any) => true,
            (Values::One(a), Values::One(b)) => a == b,
            (Values::One(value), Values::Beginning(beginning))
            | (Values::Beginning(beginning), Values::One(value)) => value.starts_with(beginning),
            (Values::Beginning(a), Values::Beginning(b)) => a.starts_with(b) || b.starts_with(a),
        }
    }

    fn are_all(self) -> bool {
        matches!(self, Values::Any | Values::Beginning(""))
    }
}

impl Branch<'_> {
    /// Whether a descriptor may meet both.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        let mut pairs = self.steps.iter().zip(&other.steps);
        pairs.all(|(a, b)| a.node.values().may_meet(b.node.values()))
    }
}

/// The lists of keys that lead to a limit, in the order of the tree's keys.
pub(super) fn key_lists(nodes: &[Node]) -> BTreeSet<Vec<&str>> {
    let mut lists = BTreeSet::new();
    for node in nodes {
        if node.rate_limit.is_some() {
            lists.insert(vec![node.key.as_str()]);
        }
        for mut list in key_lists(&node.descriptors) {
            list.insert(0, &node.key);
            lists.insert(list);
        }
    }
    lists
}

/// All ways for descriptors with these keys, by falling precedence.
pub(super) fn branches<'t>(nodes: &'t [Node], keys: &[&str]) -> Vec<Branch<'t>> {
    let mut found = Vec::new();
    follow(nodes, keys, &mut Vec::new(), &mut found);
    found
}

fn follow<'t>(nodes: &'t [Node], keys: &[&str], way: &mut Vec<Step<'t>>, found: &mut Vec<Branch<'t>>) {
    let Some((key, rest)) = keys.split_first() else {
        let is_limit = way.last().is_some_and(|step| step.node.rate_limit.is_some());
        found.push(Branch { steps: way.clone(), is_limit });
        return;
    };
    let prefix = way.last().map(|step| format!("{}.", step.path)).unwrap_or_default();
    let mut fitting: Vec<(usize, &Node)> =
        nodes.iter().enumerate().filter(|(_, node)| node.key == *key).collect();
    fitting.sort_by_key(|(place, node)| (node.precedence(), *place));
    let has_all = fitting.iter().any(|(_, node)| node.values().are_all());
    for (place, node) in fitting {
        way.push(Step { node, path: format!("{prefix}descriptors[{place}]") });
        follow(&node.descriptors, rest, way, found);
        way.pop();
    }
    // The turn was taken: what fits nothing here meets no limit at all.
    if !has_all && !way.is_empty() {
        found.push(Branch { steps: way.clone(), is_limit: false });
    }
}
