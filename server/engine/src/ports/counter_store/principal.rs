//! Who acts on counters, and the ids of what they reserve.

use rateguard_core::counter::Shard;
use rateguard_core::ids::{KeyId, ReservationId};
use rateguard_core::reservation::Reservation;
use sha2::{Digest, Sha256};

/// Who acts: a key, by itself or through a gateway that acts on its behalf. The two are different
/// principals.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The key that is charged.
    pub key: KeyId,
    /// Whether a gateway acts for it.
    pub by_gateway: bool,
}

/// Random bytes in the id of a reservation.
pub const RESERVATION_RANDOM_BYTES: usize = 12;
/// What such an id begins with that holds nothing in a shard.
const NO_SHARD: u8 = u8::MAX;
/// Bytes of such an id that tell who took it: somebody else's id fits by one chance in 2³².
const HOLDER_BYTES: usize = 4;

impl Principal {
    /// The id of a reservation that this principal takes, from random bytes that the caller draws; the
    /// first gives way to the shard in which it holds something.
    /// It tells its holder, so that nobody else can settle it even where its record is lost.
    pub fn reservation_id(
        &self,
        mut random: [u8; RESERVATION_RANDOM_BYTES],
        shard: Option<Shard>,
    ) -> ReservationId {
        random[0] = shard.map_or(NO_SHARD, Shard::number);
        let mut bytes = [0; RESERVATION_RANDOM_BYTES + HOLDER_BYTES];
        bytes[..RESERVATION_RANDOM_BYTES].copy_from_slice(&random);
        bytes[RESERVATION_RANDOM_BYTES..].copy_from_slice(&self.mark_in(&random));
        ReservationId::from_random(bytes)
    }

    /// Whether this principal took the reservation of an id, by the id alone.
    pub fn took(&self, id: &ReservationId) -> bool {
        let bytes = id.to_bits().to_be_bytes();
        let (random, holder) = bytes.split_at(RESERVATION_RANDOM_BYTES);
        self.mark_in(random) == holder
    }

    fn mark_in(&self, random: &[u8]) -> [u8; HOLDER_BYTES] {
        let hash = Sha256::new()
            .chain_update(random)
            .chain_update([u8::from(self.by_gateway)])
            .chain_update(self.key.as_str())
            .finalize();
        std::array::from_fn(|place| hash[place])
    }

    /// Whether this principal took `reservation`.
    pub fn holds(&self, reservation: &Reservation) -> bool {
        self.key == reservation.key && self.by_gateway == reservation.by_gateway
    }
}

#[cfg(test)]
mod tests;
