//! The header block of a call (RFC 7541): whole the first time, and from then on as references to
//! what the server remembers, as any good client does it.

use anyhow::ensure;

/// Longest value: beyond it, lengths take more than one byte.
const VALUE_BYTES_MAX: usize = 126;
/// `:method: POST` and `:scheme: http` of the static table.
const METHOD_AND_SCHEME: [u8; 2] = [0x83, 0x86];
/// A literal that is to be remembered, its name by its place in the static table.
const REMEMBERED: u8 = 0x40;
/// A reference.
const INDEXED: u8 = 0x80;
/// The place of the newest remembered header.
const NEWEST: u8 = 62;
const REMEMBERED_HEADERS: u8 = 6;

/// The two forms.
pub struct HeaderBlocks {
    first: Vec<u8>,
    again: Vec<u8>,
    introduced: bool,
}

impl HeaderBlocks {
    /// The headers of a unary gRPC call with a key.
    ///
    /// # Errors
    /// For a value of more than 126 bytes.
    pub fn new(path: &str, authority: &str, key: &str) -> anyhow::Result<Self> {
        let mut first = METHOD_AND_SCHEME.to_vec();
        literal(&mut first, Name::Static(4), path)?;
        literal(&mut first, Name::Static(1), authority)?;
        literal(&mut first, Name::Text("te"), "trailers")?;
        literal(&mut first, Name::Static(31), "application/grpc")?;
        literal(&mut first, Name::Static(23), &format!("Bearer {key}"))?;
        literal(&mut first, Name::Static(58), "rateguard-bench")?;
        let mut again = METHOD_AND_SCHEME.to_vec();
        again.extend((0..REMEMBERED_HEADERS).rev().map(|age| INDEXED | (NEWEST + age)));
        Ok(Self { first, again, introduced: false })
    }

    /// The block of the next call.
    pub fn block(&mut self) -> &[u8] {
        if std::mem::replace(&mut self.introduced, true) { &self.again } else { &self.first }
    }
}

enum Name<'a> {
    Static(u8),
    Text(&'a str),
}

fn literal(block: &mut Vec<u8>, name: Name<'_>, value: &str) -> anyhow::Result<()> {
    match name {
        Name::Static(place) => block.push(REMEMBERED | place),
        Name::Text(name) => {
            block.push(REMEMBERED);
            text(block, name)?;
        }
    }
    text(block, value)
}

fn text(block: &mut Vec<u8>, value: &str) -> anyhow::Result<()> {
    ensure!(value.len() <= VALUE_BYTES_MAX, "a header is above {VALUE_BYTES_MAX} bytes");
    block.push(u8::try_from(value.len())?);
    block.extend_from_slice(value.as_bytes());
    Ok(())
}
