//! What list methods have in common at the edge: their order, their size and their page tokens.

use std::fmt::Debug;

use rateguard_core::time::Millis;
use rateguard_engine::error::EngineError;
use rateguard_engine::listing::{Order, OrderBy, OrderValue, PageQuery, Place, SequenceQuery};
use rateguard_engine::manage::PriceQuery;

use crate::convert::{malformed, page_size, prices};
use crate::page::{invalid_token, next_token, place_of};

/// What stands behind a field's name for the greatest first.
const DESCENDING: &str = " desc";
/// The orders of managed resources.
const OF_RESOURCES: &[(&str, OrderBy)] = &[
    ("id", OrderBy::Id),
    ("create_time", OrderBy::CreateTime),
    ("update_time", OrderBy::UpdateTime),
    ("display_name", OrderBy::DisplayName),
];
/// The orders of what only ever grows.
const OF_LEDGERS: &[(&str, OrderBy)] = &[("create_time", OrderBy::CreateTime)];

/// A list method.
pub struct ListMethod {
    /// What it lists, which tells its tokens from others'.
    pub what: &'static str,
    /// The fields that it can be ordered by.
    pub orders: &'static [(&'static str, OrderBy)],
    /// The order of who asks for none.
    pub default: Order,
}

/// What a request says of its page.
#[derive(Clone, Copy, Debug)]
pub struct PageFields<'m> {
    /// `page_size`.
    pub size: i32,
    /// `page_token`.
    pub token: &'m str,
    /// `order_by`.
    pub order_by: &'m str,
}

/// One page of one list, as it was asked for.
#[derive(Debug)]
pub struct Turn {
    order: Order,
    limit: usize,
    place: Option<String>,
    /// What tokens of this list are good for: nothing else has the same text.
    list: String,
}

/// What a request says of its page.
pub fn page_fields<'m>(size: i32, token: &'m str, order_by: &'m str) -> PageFields<'m> {
    PageFields { size, token, order_by }
}

impl ListMethod {
    /// A method that lists managed resources.
    pub const fn of_resources(what: &'static str) -> Self {
        Self { what, orders: OF_RESOURCES, default: Order::ascending(OrderBy::Id) }
    }

    /// A method that lists what only ever grows.
    pub const fn of_ledger(what: &'static str) -> Self {
        Self { what, orders: OF_LEDGERS, default: Order::descending(OrderBy::CreateTime) }
    }

    /// Reads what is asked of the list of `owner`'s things that a filter fits.
    ///
    /// # Errors
    /// [`FieldMalformed`] for an order that the method does not have, [`FieldOutOfBounds`] for the size, and
    /// [`PageTokenInvalid`] for a token of another list: of another method, owner, filter or order.
    ///
    /// [`FieldMalformed`]: rateguard_engine::error::Reason::FieldMalformed
    /// [`FieldOutOfBounds`]: rateguard_engine::error::Reason::FieldOutOfBounds
    /// [`PageTokenInvalid`]: rateguard_engine::error::Reason::PageTokenInvalid
    pub fn turn(&self, owner: &str, filter: &impl Debug, page: PageFields<'_>) -> Result<Turn, EngineError> {
        let order = self.order(page.order_by)?;
        let limit = page_size(page.size)?;
        let list = format!("{:?}", (self.what, owner, filter, order));
        let place = place_of(page.token, &list)?;
        Ok(Turn { order, limit, place, list })
    }

    fn order(&self, order_by: &str) -> Result<Order, EngineError> {
        if order_by.is_empty() {
            return Ok(self.default);
        }
        let (name, descending) = match order_by.strip_suffix(DESCENDING) {
            Some(name) => (name, true),
            None => (order_by, false),
        };
        let known = self.orders.iter().find(|(field, _)| *field == name);
        let known = known.ok_or_else(|| malformed("order_by", self.orders_in_words()))?;
        Ok(Order { by: known.1, descending })
    }

    fn orders_in_words(&self) -> String {
        let names: Vec<&str> = self.orders.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}, each also with {DESCENDING:?} behind it", names.join(", "))
    }
}

impl Turn {
    /// The part of a list whose items have places.
    ///
    /// # Errors
    /// [`rateguard_engine::error::Reason::PageTokenInvalid`].
    pub fn page(&self) -> Result<PageQuery, EngineError> {
        let after = self.place.as_deref().map(|text| place(self.order.by, text).ok_or_else(invalid_token));
        Ok(PageQuery { order: self.order, after: after.transpose()?, limit: self.limit })
    }

    /// The part of a list whose items have numbers.
    ///
    /// # Errors
    /// [`rateguard_engine::error::Reason::PageTokenInvalid`].
    pub fn part(&self) -> Result<SequenceQuery, EngineError> {
        let after = self.place.as_deref().map(|text| text.parse().map_err(|_| invalid_token()));
        Ok(SequenceQuery {
            oldest_first: !self.order.descending,
            after: after.transpose()?,
            limit: self.limit,
        })
    }

    /// The part of the list of prices.
    ///
    /// # Errors
    /// [`rateguard_engine::error::Reason::PageTokenInvalid`].
    pub fn prices(&self) -> Result<PriceQuery, EngineError> {
        let after = self.place.as_deref().map(|text| prices::place(text).ok_or_else(invalid_token));
        Ok(PriceQuery { order: self.order, after: after.transpose()?, limit: self.limit })
    }

    /// The token of the page after a place; empty at the end.
    pub fn token_after(&self, place: Option<&Place>) -> String {
        place.map(|place| self.token_of(&place_text(place))).unwrap_or_default()
    }

    /// The token of the page after a number; empty at the end.
    pub fn token_after_number(&self, number: Option<u64>) -> String {
        number.map(|number| self.token_of(&number.to_string())).unwrap_or_default()
    }

    /// The token of this list that holds a text.
    pub fn token_of(&self, place: &str) -> String {
        next_token(place, &self.list)
    }
}

/// A place as tokens hold it: ids have no spaces.
fn place_text(place: &Place) -> String {
    let Place { id, value } = place;
    match value {
        OrderValue::Nothing => id.clone(),
        OrderValue::At(at) => format!("{id} {}", at.get()),
        OrderValue::Text(text) => format!("{id} {text}"),
    }
}

fn place(by: OrderBy, text: &str) -> Option<Place> {
    let (id, value) = match by {
        OrderBy::Id => (text, OrderValue::Nothing),
        OrderBy::CreateTime | OrderBy::UpdateTime | OrderBy::JoinTime => {
            let (id, at) = text.split_once(' ')?;
            (id, OrderValue::At(Millis::new(at.parse().ok()?)))
        }
        OrderBy::DisplayName => {
            let (id, name) = text.split_once(' ')?;
            (id, OrderValue::Text(name.to_owned()))
        }
    };
    Some(Place { value, id: id.to_owned() })
}
