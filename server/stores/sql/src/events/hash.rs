//! Short keys for long ids.

use rateguard_core::ids::{RequestId, ReservationId, WorkspaceId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The key of an id of a workspace, in 16 bytes: so many that two ids never share one by chance.
/// Who could make two share one on purpose could as well give both the same id. Ids hold no zero
/// byte, so that the parts cannot run together.
pub(crate) fn id_hash(workspace: &WorkspaceId, id: &str) -> Vec<u8> {
    xxh3_128(&joined(workspace, id)).to_be_bytes().to_vec()
}

/// The key of a reservation.
pub(super) fn reservation_hash(workspace: &WorkspaceId, reservation: &ReservationId) -> Vec<u8> {
    id_hash(workspace, reservation.as_str())
}

/// Where to look for a check's id. Two may share it: the id itself decides.
pub(crate) fn request_hash(workspace: &WorkspaceId, request: &RequestId) -> i64 {
    i64::from_be_bytes(xxh3_64(&joined(workspace, request.as_str())).to_be_bytes())
}

fn joined(workspace: &WorkspaceId, id: &str) -> Vec<u8> {
    [workspace.as_str().as_bytes(), &[0], id.as_bytes()].concat()
}
