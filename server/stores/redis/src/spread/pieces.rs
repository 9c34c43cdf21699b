//! A check in the pieces that stand in different places.

use rateguard_core::counter::{Counter, CounterId, Demand, Limit, Mark, Reading, Shard};
use rateguard_core::decision::{Charge, Mode, Verdict};
use rateguard_core::ids::{ReservationId, WorkspaceId};
use rateguard_core::limits::WINDOW_MS_MIN;
use rateguard_core::rule::Enforcement;
use rateguard_engine::ports::{Attempt, CheckCommand, Decided, RequestFingerprint, StoreError};
use smallvec::SmallVec;

use crate::link::unavailable;

/// Where something stands: in a shard, or beside all of its workspace that is not spread.
pub(super) type Place = Option<Shard>;

/// Under which name a place of a workspace is kept.
pub(super) fn name_of(workspace: &WorkspaceId, place: Place) -> WorkspaceId {
    place.map_or_else(|| workspace.clone(), |shard| workspace.shard(shard))
}

/// The places in which things stand, each once.
pub(super) fn places_of(shards: impl Iterator<Item = Place>) -> SmallVec<[Place; 4]> {
    let mut places: SmallVec<[Place; 4]> = SmallVec::new();
    for place in shards {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// How long an attempt can be undone whose caller would never cancel it.
const UNDONE_WITHIN_MS: i64 = 60_000;
/// A limit of nothing, for what was denied in another place. Its counter is never made: nothing is taken from it.
const NOTHING: Charge = Charge {
    counter: CounterId(0),
    overflow: CounterId(0),
    limit: Limit::FixedWindow { limit: 0, window_ms: WINDOW_MS_MIN },
    demand: Demand::PROBE,
    enforcement: Enforcement::Enforced,
    counts_denied: false,
};

/// The part of a check that stands in one place.
pub(super) struct Piece {
    pub(super) command: CheckCommand,
    /// Which of the whole check's charges its own are.
    indexes: SmallVec<[usize; 8]>,
}

/// A check that does not stand in one place alone, or not in the usual one.
pub(super) struct Pieces {
    /// Shards first: they deny single subjects, and what is beside them is everybody's.
    pieces: SmallVec<[Piece; 2]>,
    mode: Mode,
}

impl Pieces {
    /// `None` where nothing of it is in a shard.
    pub(super) fn of(command: &CheckCommand) -> Option<Self> {
        let shards = command.charges.iter().filter_map(|charge| charge.counter.shard());
        let mut places = places_of(shards.map(Some));
        if places.is_empty() {
            return None;
        }
        // Beside the shards is the record of every reservation, with its money.
        let is_reserved = command.mode == Mode::Reserve;
        if is_reserved || command.charges.iter().any(|charge| charge.counter.shard().is_none()) {
            places.push(None);
        }
        let pieces = places.iter().map(|place| Piece::of(command, *place)).collect();
        Some(Self { pieces, mode: command.mode })
    }

    /// Gives an attempt to one of several pieces whose caller has none.
    pub(super) fn can_be_undone(&mut self) -> Result<(), StoreError> {
        let CheckCommand { request: known, now, .. } = self.pieces[0].command;
        let is_named = known.is_some_and(|request| request.attempt.is_some());
        if is_named || self.pieces.len() == 1 {
            return Ok(());
        }
        let mut drawn = [0; size_of::<u128>() + size_of::<u32>()];
        getrandom::fill(&mut drawn).map_err(|error| unavailable(error.to_string()))?;
        let [a, b, c, d, id @ ..] = drawn;
        let attempt = Some(Attempt(u32::from_be_bytes([a, b, c, d])));
        let expires_at = now.plus(UNDONE_WITHIN_MS);
        let unnamed = RequestFingerprint { id: u128::from_be_bytes(id), content: 0, expires_at, attempt };
        let request = known.map_or(unnamed, |known| RequestFingerprint { attempt, ..known });
        for piece in &mut self.pieces {
            piece.command.request = Some(request);
        }
        Ok(())
    }

    pub(super) fn is_peek(&self) -> bool {
        self.mode == Mode::Peek
    }

    pub(super) fn all(&self) -> &[Piece] {
        &self.pieces
    }

    /// Lets all pieces hold under the id that the first one has, which may be that of an earlier attempt. Says
    /// whether the one that has it is the first, or holds under the same.
    pub(super) fn hold_under(&mut self, index: usize, held: &ReservationId) -> bool {
        if index > 0 {
            let asked = self.pieces[index].command.reservation.as_ref();
            return asked.is_none_or(|asked| asked.id == *held);
        }
        for piece in &mut self.pieces {
            if let Some(reservation) = &mut piece.command.reservation {
                reservation.id = held.clone();
            }
        }
        true
    }

    /// Lets the pieces before one ask once more, under the reservation that this one has.
    pub(super) fn ask_again_under(&mut self, index: usize, held: &ReservationId) {
        for piece in &mut self.pieces[..index] {
            piece.command = piece.command.next_attempt();
            if let Some(reservation) = &mut piece.command.reservation {
                reservation.id = held.clone();
            }
        }
    }

    /// What shards may have been asked by [`Self::ask_again_under`].
    pub(super) fn asked_again(&self) -> SmallVec<[CheckCommand; 2]> {
        let shards = self.pieces.iter().filter(|_| self.mode == Mode::Reserve).map(|piece| &piece.command);
        let again = shards.filter(|command| command.workspace.of_shard().is_some());
        again.map(CheckCommand::next_attempt).collect()
    }

    /// The decision over all of them; `decided` are those of the pieces, in their order.
    pub(super) fn together(&self, decided: SmallVec<[Decided; 2]>) -> Decided {
        let allowed = decided.iter().all(|decided| decided.verdict.allowed);
        let replayed = decided.iter().all(|decided| decided.replayed);
        let mut standing: SmallVec<[(usize, Reading, Option<Mark>); 8]> = SmallVec::new();
        let (mut reservation, mut reserved) = (None, None);
        for (piece, decided) in self.pieces.iter().zip(decided) {
            let Verdict { readings, marks, .. } = decided.verdict;
            let standing_here = piece.indexes.iter().copied().zip(readings.into_iter().zip(marks));
            standing.extend(standing_here.map(|(index, (reading, mark))| (index, reading, mark)));
            // The last one is that beside the shards, which knows what it costs.
            (reservation, reserved) = (decided.reservation, decided.reserved);
        }
        standing.sort_unstable_by_key(|(index, ..)| *index);
        let readings = standing.iter().map(|(_, reading, _)| *reading).collect();
        let marks = standing.iter().map(|(.., mark)| *mark).collect();
        let reservation = reservation.filter(|_| allowed);
        Decided { verdict: Verdict { allowed, readings, marks }, reservation, reserved, replayed }
    }
}

impl Piece {
    fn of(command: &CheckCommand, place: Place) -> Self {
        let stands_here = |(_, charge): &(usize, &Charge)| charge.counter.shard() == place;
        let indexes: SmallVec<[usize; 8]> =
            command.charges.iter().enumerate().filter(stands_here).map(|(index, _)| index).collect();
        let mut reservation = command.reservation.clone();
        if let Some(reservation) = reservation.as_mut().filter(|_| place.is_some()) {
            (reservation.cost, reservation.floor) = (None, Default::default());
        }
        let command = CheckCommand {
            workspace: name_of(&command.workspace, place),
            now: command.now,
            mode: command.mode,
            charges: indexes.iter().map(|index| command.charges[*index]).collect(),
            units: indexes.iter().filter_map(|index| command.units.get(*index).cloned()).collect(),
            request: command.request,
            reservation,
        };
        Self { command, indexes }
    }

    /// Whether a denial elsewhere is counted here.
    pub(super) fn counts_denied(&self) -> bool {
        self.command.mode == Mode::Consume && self.command.charges.iter().any(|charge| charge.counts_denied)
    }

    /// How it stands once what it took has been given back.
    pub(super) fn given_back(&self, decided: Decided) -> Decided {
        let Verdict { allowed, readings, marks } = decided.verdict;
        let taken = self.command.charges.iter().zip(readings).zip(&marks);
        let before = taken.map(|((charge, reading), mark)| match mark {
            Some(_) => reading.shifted(&charge.limit, -charge.demand.take),
            None => reading,
        });
        let verdict = Verdict {
            allowed,
            readings: before.collect(),
            marks: SmallVec::from_elem(None, self.command.charges.len()),
        };
        Decided { verdict, reservation: None, reserved: None, replayed: true }
    }

    /// A denial by others of what nobody could look at: nothing is known to be used.
    pub(super) fn unread(&self) -> Decided {
        let CheckCommand { charges, now, .. } = &self.command;
        let fresh = |charge: &Charge| Counter::fresh(&charge.limit, *now).read(&charge.limit, 0, *now);
        let (readings, marks) =
            (charges.iter().map(fresh).collect(), SmallVec::from_elem(None, charges.len()));
        let verdict = Verdict { allowed: false, readings, marks };
        Decided { verdict, reservation: None, reserved: None, replayed: false }
    }

    /// What is to be done here with a check that is denied elsewhere: only what counts denied amounts takes.
    pub(super) fn denied_elsewhere(&self) -> CheckCommand {
        let asked = &self.command;
        let mut charges = asked.charges.clone();
        let counts = self.counts_denied();
        if counts {
            charges.push(NOTHING);
        }
        CheckCommand {
            workspace: asked.workspace.clone(),
            now: asked.now,
            mode: if counts { Mode::Consume } else { Mode::Peek },
            charges,
            units: SmallVec::new(),
            request: None,
            reservation: None,
        }
    }
}
