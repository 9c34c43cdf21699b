//! Since when the prices of a configuration are in force, also of those that do not say.

use std::collections::{HashMap, HashSet};

use rateguard_core::time::Millis;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_engine::ports::{Resource, WorkspaceState};
use rateguard_proto::v1;

use crate::convert::instant;

/// A provider and its model.
type Model<'a> = (&'a str, &'a str);

/// What dates prices without an instant.
pub struct Dates<'a> {
    now: Millis,
    /// The instants of present prices that no entry names.
    unnamed: HashMap<Model<'a>, Vec<Millis>>,
}

impl<'a> Dates<'a> {
    /// The dates of a state, as far as a configuration does not name them.
    pub fn of(state: &'a WorkspaceState, wanted: &'a [v1::Price], now: Millis) -> Self {
        let named: HashSet<(Model<'a>, Millis)> = wanted.iter().filter_map(named).collect();
        let mut unnamed: HashMap<Model<'a>, Vec<Millis>> = HashMap::new();
        for stored in &state.resources {
            let Resource::PriceOverride(price) = &stored.value else { continue };
            let (model, from) = ((&*price.sheet.provider, &*price.sheet.model), price.sheet.effective_from);
            if !named.contains(&(model, from)) {
                unnamed.entry(model).or_default().push(from);
            }
        }
        Self { now, unnamed }
    }

    /// Since when a price is in force. One that does not say is the only present one of its model that no
    /// entry names, so that applying a file again changes nothing, and begins now where there is none.
    ///
    /// # Errors
    /// [`Reason::FieldMissing`] where it may be one of several, [`Reason::FieldMalformed`].
    pub fn date(&self, price: &v1::Price) -> Result<Millis, EngineError> {
        if let Some(time) = &price.effective_time {
            return instant("effective_time", time);
        }
        match self.unnamed.get(&(&*price.provider, &*price.model)).map_or(&[][..], Vec::as_slice) {
            [] => Ok(self.now),
            [only] => Ok(*only),
            _ => {
                let message = "must be set: the model has several prices that it could be";
                Err(EngineError::field(Reason::FieldMissing, "effective_time", message))
            }
        }
    }
}

fn named(price: &v1::Price) -> Option<(Model<'_>, Millis)> {
    let from = instant("effective_time", price.effective_time.as_ref()?).ok()?;
    Some(((&*price.provider, &*price.model), from))
}
