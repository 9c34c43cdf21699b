//! Lists in pages: what they are ordered by, and where a page goes on.
//!
//! A page goes on after a place, which is the value that the list is ordered by and the id. So what stays
//! as it is comes exactly once, whatever is added or taken out between two pages.

use std::cmp::Ordering;

use rateguard_core::time::Millis;

/// What a list is ordered by; equals follow by their ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OrderBy {
    /// The id alone.
    #[default]
    Id,
    /// When it was made.
    CreateTime,
    /// When it was changed last.
    UpdateTime,
    /// When somebody joined. Only memberships tell that apart from when they were made.
    JoinTime,
    /// The name for people, byte by byte.
    DisplayName,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// By what.
    pub by: OrderBy,
    /// Whether the greatest comes first; then the greatest id comes first among equals, too.
    pub descending: bool,
}

/// The value that an item is ordered by. Places of one order have the same kind of value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderValue {
    /// Nothing but the id.
    Nothing,
    /// An instant.
    At(Millis),
    /// Text.
    Text(String),
}

/// Where an item stands in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What it is ordered by.
    pub value: OrderValue,
    /// Its id.
    pub id: String,
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// The order.
    pub order: Order,
    /// Only what comes after this place; `None` from the start.
    pub after: Option<Place>,
    /// How many at most.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items. They may be fewer than was asked for while more follow.
    pub items: Vec<T>,
    /// The place to go on after; `None` at the end.
    pub next_after: Option<Place>,
}

/// Which part of a list whose items have numbers, in the order of these, and that only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceQuery {
    /// Whether the smallest number comes first; otherwise the greatest does.
    pub oldest_first: bool,
    /// Only what comes after this number in that direction; `None` from the start.
    pub after: Option<u64>,
    /// How many at most.
    pub limit: usize,
}

/// A part of such a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequencePage<T> {
    /// The items.
    pub items: Vec<T>,
    /// The number to go on after; `None` at the end.
    pub next_after: Option<u64>,
}

/// What stands in lists.
pub trait Listed {
    /// Where it stands in a list of that order.
    fn place(&self, by: OrderBy) -> Place;
}

/// Part of a name, whatever the case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextPart(String);

impl Order {
    /// From the smallest on.
    pub const fn ascending(by: OrderBy) -> Self {
        Self { by, descending: false }
    }

    /// From the greatest on.
    pub const fn descending(by: OrderBy) -> Self {
        Self { by, descending: true }
    }

    /// Which of two places comes first.
    pub fn compare(self, one: &Place, other: &Place) -> Ordering {
        if self.descending { other.cmp(one) } else { one.cmp(other) }
    }
}

impl PageQuery {
    /// The first so many by their ids.
    pub fn first(limit: usize) -> Self {
        Self { order: Order::default(), after: None, limit }
    }

    /// Whether a place is after the one to go on after.
    pub fn goes_on_to(&self, place: &Place) -> bool {
        self.after.as_ref().is_none_or(|after| self.order.compare(after, place) == Ordering::Less)
    }
}

impl SequenceQuery {
    /// The query that tells whether more follow, too.
    #[must_use]
    pub fn one_more(self) -> Self {
        Self { limit: self.limit + 1, ..self }
    }

    /// The page, from the answer to [`SequenceQuery::one_more`].
    pub fn page<T>(self, mut items: Vec<T>, number: impl Fn(&T) -> u64) -> SequencePage<T> {
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let next_after = items.last().filter(|_| more).map(number);
        SequencePage { items, next_after }
    }
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next_after: None }
    }
}

impl TextPart {
    /// A part that is looked for.
    pub fn new(part: &str) -> Self {
        Self(part.to_lowercase())
    }

    /// Whether a text has it.
    pub fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.0)
    }
}

/// A page of a list that is in memory, whole.
pub fn page_of<T: Listed>(all: impl IntoIterator<Item = T>, query: &PageQuery) -> Page<T> {
    let placed = all.into_iter().map(|item| (item.place(query.order.by), item));
    let mut rest: Vec<(Place, T)> = placed.filter(|(place, _)| query.goes_on_to(place)).collect();
    rest.sort_by(|(one, _), (other, _)| query.order.compare(one, other));
    let more = rest.len() > query.limit;
    rest.truncate(query.limit);
    let next_after = rest.last().filter(|_| more).map(|(place, _)| place.clone());
    Page { items: rest.into_iter().map(|(_, item)| item).collect(), next_after }
}

#[cfg(test)]
mod tests;
