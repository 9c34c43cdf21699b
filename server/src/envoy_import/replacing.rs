//! Limits that replace others wherever both are met by one request.
//!
//! An override group over all descriptors of a request says the same, as long as a rule is in one group only
//! and the group has two rules: of three, two that do not replace each other would.

use rateguard_core::descriptor::REQUEST_GROUP;
use rateguard_core::limits::NAME_BYTES_MAX;

use super::rules::Made;

/// Puts each pair of which one replaces the other into a group, and notes those that cannot be.
pub(super) fn join(made: &mut Made<'_>) {
    let replacing: Vec<usize> =
        (0..made.rules.len()).filter(|at| !replaced_by(made, *at).is_empty()).collect();
    for by in replacing {
        let names = replaced_by(made, by);
        let path = made.rules[by].path.clone();
        match pair(made, by, &names) {
            Ok(of) => {
                let group = Some(format!("{REQUEST_GROUP}{}", names[0]));
                made.rules[by].rule.priority = 1;
                made.rules[by].rule.override_group.clone_from(&group);
                made.rules[of].rule.override_group = group;
            }
            Err(why) => {
                made.note(&path, ".rate_limit.replaces", format!("is not carried: {why}; both limits apply"))
            }
        }
    }
}

fn replaced_by(made: &Made<'_>, at: usize) -> Vec<String> {
    let limit = made.rules[at].limit;
    limit.map_or_else(Vec::new, |limit| limit.replaces.iter().map(|replaced| replaced.name.clone()).collect())
}

/// The one rule that another replaces, if they can be a group of two.
fn pair(made: &Made<'_>, by: usize, names: &[String]) -> Result<usize, String> {
    let [name] = names else {
        return Err("a rule can replace one other, and this replaces several".to_owned());
    };
    let places = || 0..made.rules.len();
    let called: Vec<usize> =
        places().filter(|at| made.rules[*at].limit.is_some_and(|limit| limit.name == *name)).collect();
    let [of] = called[..] else {
        let count = called.len();
        return Err(format!("{count} limits here are called {name:?}, and it takes one"));
    };
    if places().any(|other| other != by && replaced_by(made, other).contains(name)) {
        return Err(format!("others replace {name:?} too"));
    }
    if [by, of].iter().any(|at| made.rules[*at].rule.override_group.is_some()) {
        return Err("one of the two is in a group already, with limits of the same keys".to_owned());
    }
    if REQUEST_GROUP.len() + name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!(
            "a name of at most {} bytes can be replaced",
            NAME_BYTES_MAX - REQUEST_GROUP.len()
        ));
    }
    Ok(of)
}
