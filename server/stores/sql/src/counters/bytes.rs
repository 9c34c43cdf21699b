//! A compact encoding: whole numbers as variable-length bytes, signs in the lowest bit, text with
//! its length in front. Reading never trusts a length: everything is bounded by the bytes given.

use std::str;

use thiserror::Error;

/// Bits of a number in one byte; the highest bit says that more follow.
const BITS: u32 = 7;
const MORE: u8 = 0x80;

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("its {0} is malformed")]
pub(super) struct Malformed(pub(super) &'static str);

/// Writes values one after another.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn unsigned(&mut self, mut number: u128) {
        while number >> BITS != 0 {
            self.0.push(low_bits(number) | MORE);
            number >>= BITS;
        }
        self.0.push(low_bits(number));
    }

    /// Small numbers of either sign stay short.
    pub fn signed(&mut self, number: i128) {
        self.unsigned(((number << 1) ^ (number >> (i128::BITS - 1))).cast_unsigned());
    }

    pub fn text(&mut self, text: &str) {
        self.unsigned(text.len() as u128);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A byte that says whether a value follows, and the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn low_bits(number: u128) -> u8 {
    number.to_le_bytes()[0] & !MORE
}

/// Reads what a [`Writer`] wrote. Each method names what it reads, for the error.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let (first, rest) = self.0.split_first().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn unsigned(&mut self, what: &'static str) -> Result<u128, Malformed> {
        let mut number = 0_u128;
        for shift in (0..u128::BITS).step_by(BITS as usize) {
            let byte = self.byte(what)?;
            let bits = u128::from(byte & !MORE);
            if bits.leading_zeros() < shift {
                return Err(Malformed(what));
            }
            number |= bits << shift;
            if byte & MORE == 0 {
                return Ok(number);
            }
        }
        Err(Malformed(what))
    }

    pub fn signed(&mut self, what: &'static str) -> Result<i128, Malformed> {
        let number = self.unsigned(what)?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of a narrower type.
    pub fn number<T: TryFrom<i128>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        T::try_from(self.signed(what)?).map_err(|_| Malformed(what))
    }

    /// A length, which is at most that of the bytes left: each item takes one or more.
    pub fn length(&mut self, what: &'static str) -> Result<usize, Malformed> {
        let length = usize::try_from(self.unsigned(what)?).map_err(|_| Malformed(what))?;
        if length > self.0.len() { Err(Malformed(what)) } else { Ok(length) }
    }

    pub fn text(&mut self, what: &'static str) -> Result<&'a str, Malformed> {
        let length = self.length(what)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Malformed(what))?;
        self.0 = rest;
        str::from_utf8(text).map_err(|_| Malformed(what))
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Malformed(what))?;
        self.0 = rest;
        Ok(*array)
    }

    pub fn flag(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        if self.flag(what)? { read(self).map(Some) } else { Ok(None) }
    }

    /// Refuses bytes that nobody read.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed("end")) }
    }
}

#[cfg(test)]
mod tests;
