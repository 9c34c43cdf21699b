//! Commands as the scripts unpack them: MessagePack (<https://github.com/msgpack/msgpack>), of which
//! Redis's own unpacker knows integers, texts, arrays, booleans and no binary strings.

use xxhash_rust::xxh3::xxh3_64;

/// From here on a double, which is all that Lua has, does not hold every integer: such a one goes as
/// text. The bound itself is exact still.
const EXACT_MAX: i128 = 1 << 53;

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Packer(Vec<u8>);

impl Packer {
    /// Begins an array of `length` items, which follow.
    pub(crate) fn array(&mut self, length: usize) -> &mut Self {
        self.0.push(0xdd);
        self.length(length)
    }

    /// An integer.
    pub(crate) fn integer(&mut self, value: impl Into<i128>) -> &mut Self {
        let value = value.into();
        match i64::try_from(value) {
            Ok(small @ 0..=0x7f) => self.0.push(small.to_be_bytes()[7]),
            Ok(exact) if value.abs() <= EXACT_MAX => {
                self.0.push(0xd3);
                self.0.extend_from_slice(&exact.to_be_bytes());
            }
            _ => return self.text(value.to_string()),
        }
        self
    }

    /// A count, which no bound lets pass what is exact.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.integer(i128::try_from(count).unwrap_or(i128::MAX))
    }

    /// A text, or bytes that stand for themselves.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        match u8::try_from(text.len()) {
            Ok(short @ 0..=0x1f) => self.0.push(0xa0 | short),
            _ => {
                self.0.push(0xdb);
                self.length(text.len());
            }
        }
        self.0.extend_from_slice(text);
        self
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.0.push(if flag { 0xc3 } else { 0xc2 });
        self
    }

    /// What is not there.
    pub(crate) fn none(&mut self) -> &mut Self {
        self.flag(false)
    }

    /// Bytes so far.
    pub(crate) fn length_so_far(&self) -> usize {
        self.0.len()
    }

    /// A hash of what was packed since there were so many bytes.
    pub(crate) fn hash_since(&self, length: usize) -> u32 {
        let [.., a, b, c, d] = xxh3_64(self.0.get(length..).unwrap_or_default()).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// What was packed.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    fn length(&mut self, length: usize) -> &mut Self {
        // Nothing here is near four thousand million of anything.
        self.0.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        self
    }
}
