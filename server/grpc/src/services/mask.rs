//! Update masks: the fields that a request names are taken over, the others stay as they are.
//!
//! It goes by the messages' descriptors, so that no resource lists its fields a second time.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor};
use prost_types::FieldMask;
use rateguard_engine::error::{EngineError, Reason};
use rateguard_proto::FILE_DESCRIPTOR_SET;

/// Stands for every field that can change.
pub const EVERY_FIELD: &str = "*";
/// The field of a request that holds the mask.
const FIELD: &str = "update_mask";
/// Paths of one mask: no resource has as many fields.
const PATHS_MAX: usize = 64;

/// The public descriptors; `None` only when the set built in is damaged, which reflection would have
/// told at the start.
static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// What a mask is held against.
#[derive(Clone, Copy, Debug)]
pub struct Maskable {
    /// The message's full name.
    pub message: &'static str,
    /// Its fields that no update changes.
    pub fixed: &'static [&'static str],
}

/// `stored` with the fields of `changes` that the mask names.
///
/// # Errors
/// [`Reason::UpdateMaskInvalid`] for an empty mask, and for a path that is no field or cannot change.
pub fn masked<M: Message + Default>(
    maskable: Maskable,
    stored: &M,
    changes: &M,
    mask: Option<&FieldMask>,
) -> Result<M, EngineError> {
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(maskable.message));
    let descriptor = descriptor.ok_or_else(|| EngineError::internal("a resource has no descriptor"))?;
    let fields = fields(maskable, &descriptor, mask.map_or(&[], |mask| mask.paths.as_slice()))?;
    let changes = dynamic(&descriptor, changes)?;
    let mut result = dynamic(&descriptor, stored)?;
    // What is cleared comes first, so that the member of a oneof that is set stays.
    for field in fields.iter().filter(|field| !changes.has_field(field)) {
        result.clear_field(field);
    }
    for field in fields.iter().filter(|field| changes.has_field(field)) {
        result.set_field(field, changes.get_field(field).into_owned());
    }
    result.transcode_to().map_err(|_| undecodable())
}

fn dynamic<M: Message>(descriptor: &MessageDescriptor, message: &M) -> Result<DynamicMessage, EngineError> {
    let mut dynamic = DynamicMessage::new(descriptor.clone());
    dynamic.transcode_from(message).map_err(|_| undecodable())?;
    Ok(dynamic)
}

fn undecodable() -> EngineError {
    EngineError::internal("a resource does not fit its descriptor")
}

fn fields(
    maskable: Maskable,
    descriptor: &MessageDescriptor,
    paths: &[String],
) -> Result<Vec<FieldDescriptor>, EngineError> {
    let can_change = |field: &FieldDescriptor| !maskable.fixed.contains(&field.name());
    if paths == [EVERY_FIELD] {
        return Ok(descriptor.fields().filter(can_change).collect());
    }
    if paths.is_empty() || paths.len() > PATHS_MAX {
        return Err(invalid(FIELD.to_owned(), "must name the fields to change, or * alone for all of them"));
    }
    let named = |(place, path): (usize, &String)| {
        let field = descriptor.get_field_by_name(path).filter(can_change);
        field.ok_or_else(|| invalid(format!("{FIELD}.paths[{place}]"), "is no field that can change"))
    };
    paths.iter().enumerate().map(named).collect()
}

fn invalid(field: String, message: &str) -> EngineError {
    EngineError::field(Reason::UpdateMaskInvalid, field, message)
}

#[cfg(test)]
mod tests;
