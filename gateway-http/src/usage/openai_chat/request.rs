//! Reads a chat request and asks for the usage of its stream where the caller did not.
//!
//! The option is spliced into the caller's own bytes: parsing and writing the body anew would change
//! numbers (`1.10`, integers beyond 64 bits) and the order of fields, and would cost a tree as large
//! as the body.

use bytes::Bytes;

use crate::usage::dialect::{
    Prepared, RequestFault, byte_count, request_fault, requested_count, requested_model, requested_switch,
};
use crate::usage::fields::{Field, fields};

const OPTIONS_FIELD: &[u8] = br#""stream_options":{"include_usage":true}"#;
const USAGE_FIELD: &[u8] = br#""include_usage":true"#;

/// See [`crate::usage::Dialect::prepare_request`].
pub(super) fn prepare(body: &Bytes) -> Result<Prepared, RequestFault> {
    let names = ["model", "max_completion_tokens", "max_tokens", "n", "stream", "stream_options"];
    let [model, max_completion_tokens, max_tokens, choices, stream, options] =
        fields(body, names).map_err(|_| RequestFault::NotAnObject)?;
    let max_completion_tokens = requested_count(max_completion_tokens, "max_completion_tokens")?;
    let max_tokens = requested_count(max_tokens, "max_tokens")?;
    let stream = requested_switch(stream, "stream")?;
    let asking = if stream { ask_for_usage(body, options)? } else { Asking::AsItStands };
    Ok(Prepared {
        model: requested_model(model)?,
        // Where both stand, upstreams differ in which they obey; the larger never reserves too little.
        max_output_tokens: max_completion_tokens.max(max_tokens),
        choices: requested_count(choices, "n")?.unwrap_or(1).max(1),
        stream,
        usage_asked: matches!(asking, Asking::AsItStands),
        input_bytes: byte_count(body),
        body: asking.body(body),
    })
}

/// What the body needs so that the stream tells its usage.
enum Asking {
    /// Nothing: the caller asked, or the upstream will refuse the call anyway.
    AsItStands,
    /// These bytes in place of the original ones.
    Rewritten(Bytes),
}

impl Asking {
    fn body(self, original: &Bytes) -> Bytes {
        match self {
            Self::AsItStands => original.clone(),
            Self::Rewritten(body) => body,
        }
    }
}

fn ask_for_usage(body: &Bytes, options: Field<'_>) -> Result<Asking, RequestFault> {
    let malformed = |fault| request_fault(fault, "stream_options", "an object", 0);
    if options.raw().map_err(malformed)?.is_none() {
        return Ok(put_field(body, body, options, OPTIONS_FIELD));
    }
    let [include_usage] = options.object(["include_usage"]).map_err(malformed)?;
    let asked = requested_switch(include_usage, "stream_options.include_usage")?;
    let object = options.slice().unwrap_or_default();
    Ok(if asked { Asking::AsItStands } else { put_field(body, object, include_usage, USAGE_FIELD) })
}

/// Writes `pair`, a name and its value, into `object`, a part of `body`: in place of the value that
/// stands there, or else in front of the object's other fields.
fn put_field(body: &[u8], object: &[u8], present: Field<'_>, pair: &[u8]) -> Asking {
    if let Some(value) = present.slice() {
        let colon = pair.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
        return splice(body, offset_in(body, value), value.len(), &[&pair[colon..]]);
    }
    let brace = object.iter().position(|byte| *byte == b'{').map_or(0, |brace| brace + 1);
    let empty = object[brace..].trim_ascii_start().starts_with(b"}");
    let comma: &[u8] = if empty { b"" } else { b"," };
    splice(body, offset_in(body, object) + brace, 0, &[pair, comma])
}

/// Where `part`, a slice of `whole`, starts in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(whole.as_ptr().addr())
}

/// `body` with `removed` bytes at `start` replaced by `inserted`.
fn splice(body: &[u8], start: usize, removed: usize, inserted: &[&[u8]]) -> Asking {
    let (head, rest) = body.split_at(start);
    let inserted = inserted.concat();
    Asking::Rewritten(Bytes::from([head, &inserted, &rest[removed..]].concat()))
}
