//! Records to settle, in the pieces that stand in different places.

use rateguard_engine::ports::{SettleCommand, SettleReservation, Standing};
use smallvec::SmallVec;

use super::pieces::{Place, name_of, places_of};

/// A record, as each place is charged that it is of.
pub(super) fn settled_in(command: SettleCommand) -> SmallVec<[SettleCommand; 1]> {
    let held_in = command.reservation.as_ref().and_then(|reservation| reservation.id.shard());
    let shards = command.charges.iter().filter_map(|charge| charge.counter.shard()).chain(held_in);
    let mut places = places_of(shards.map(Some));
    if places.is_empty() {
        return SmallVec::from_iter([command]);
    }
    // Beside the shards every record is noted: those that open a budget rely on it.
    places.push(None);
    places.into_iter().filter_map(|place| piece_of(&command, held_in, place)).collect()
}

fn piece_of(command: &SettleCommand, held_in: Place, place: Place) -> Option<SettleCommand> {
    let reservation = command.reservation.as_ref();
    let is_held_here = place.is_none() || place == held_in;
    // Of a reservation that stands, limits are charged only where it holds something of them.
    if !is_held_here && reservation.is_some_and(|reservation| reservation.standing == Standing::Known) {
        return None;
    }
    let here = |reservation: &SettleReservation| match (place, reservation.standing) {
        // A shard may have lost what is known beside it: then the record counts there in full.
        (Some(_), Standing::Known) => SettleReservation {
            standing: Standing::Elsewhere,
            captured_budgets: Vec::new(),
            ..reservation.clone()
        },
        _ => reservation.clone(),
    };
    let charges = command.charges.iter().filter(|charge| charge.counter.shard() == place).cloned();
    Some(SettleCommand {
        workspace: name_of(&command.workspace, place),
        reservation: reservation.filter(|_| is_held_here).map(here),
        charges: charges.collect(),
        amounts: command.amounts.clone(),
        ..*command
    })
}
