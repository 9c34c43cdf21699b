//! What the scripts answer: integers, large ones as text, and bytes.

use rateguard_core::time::Millis;
use rateguard_engine::ports::StoreError;
use redis::Value;

use crate::link::STORE;

/// What scripts count losses by: the number of one times this, and its kind.
const LOSS_KINDS: i64 = 4;

/// The values of one answer, read one after another.
#[derive(Debug)]
pub(crate) struct Reply(std::vec::IntoIter<Value>);

/// How a script's answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// What became of the command.
    pub(crate) code: i64,
    /// The generation that the workspace's memory is of.
    pub(crate) generation: Generation,
    /// How often the workspace was written to.
    pub(crate) sequence: i64,
    /// Whether memory was found lost.
    pub(crate) loss: Loss,
    /// Tells losses of one generation apart; 0 where nothing is lost.
    pub(crate) loss_number: i64,
    /// The instant that counted.
    pub(crate) now: Millis,
}

/// One loss, whose budgets are not counted again yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// The generation that the memory was of when it was noticed, or that it began.
    pub(crate) generation: Generation,
    /// Above 0, and higher with each loss of a generation.
    pub(crate) number: i64,
}

impl Doubt {
    /// Both in one number, by which others know it.
    pub(crate) fn to_bits(self) -> u128 {
        u128::from(u64::from_be_bytes(self.generation)) << 64 | u128::from(self.number.cast_unsigned())
    }

    /// The same back.
    pub(crate) fn from_bits(bits: u128) -> Self {
        let bytes = bits.to_be_bytes();
        let (generation, number) = bytes.split_at(bytes.len() / 2);
        Self {
            generation: std::array::from_fn(|place| generation[place]),
            number: i64::from_be_bytes(std::array::from_fn(|place| number[place])),
        }
    }
}

/// Tells one beginning of a workspace's memory from another.
pub(crate) type Generation = [u8; 8];

/// What a script found of the memory that its caller had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It is there.
    None,
    /// All of it is gone.
    Gone,
    /// The last of it is gone.
    WentBack,
    /// It was lost before, and its budgets are not counted again yet.
    NotRebuilt,
}

/// Data that no script of this version answers.
pub(crate) fn corrupt(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt { store: STORE, detail: detail.into() }
}

impl Reply {
    /// The values of an array.
    pub(crate) fn of(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(corrupt(format!("an answer is no list: {}", kind(&other)))),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    fn value(&mut self) -> Result<Value, StoreError> {
        self.0.next().ok_or_else(|| corrupt("an answer ends early"))
    }

    /// A list within the list.
    pub(crate) fn list(&mut self) -> Result<Self, StoreError> {
        Self::of(self.value()?)
    }

    /// An integer of any size.
    pub(crate) fn integer(&mut self) -> Result<i128, StoreError> {
        let value = self.value()?;
        to_integer(&value).ok_or_else(|| corrupt(format!("no integer but {}", kind(&value))))
    }

    /// An integer; one that is too large is as large as may be.
    pub(crate) fn small(&mut self) -> Result<i64, StoreError> {
        let integer = self.integer()?;
        Ok(i64::try_from(integer).unwrap_or(if integer < 0 { i64::MIN } else { i64::MAX }))
    }

    /// An integer, or nothing.
    pub(crate) fn optional(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.as_slice().first() {
            Some(Value::BulkString(bytes)) if bytes.is_empty() => self.value().map(|_| None),
            _ => self.small().map(Some),
        }
    }

    /// An instant.
    pub(crate) fn instant(&mut self) -> Result<Millis, StoreError> {
        self.small().map(Millis::new)
    }

    /// An instant; a negative number stands for none.
    pub(crate) fn optional_instant(&mut self) -> Result<Option<Millis>, StoreError> {
        Ok(Some(self.small()?).filter(|ms| *ms >= 0).map(Millis::new))
    }

    /// Bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.value()? {
            Value::BulkString(bytes) => Ok(bytes),
            other => Err(corrupt(format!("no bytes but {}", kind(&other)))),
        }
    }

    /// As many bytes as an id has.
    pub(crate) fn exact<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let bytes = self.bytes()?;
        <[u8; N]>::try_from(bytes).map_err(|bytes| corrupt(format!("{} bytes, not {N}", bytes.len())))
    }

    /// Text.
    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        String::from_utf8(self.bytes()?).map_err(|_| corrupt("text that is none"))
    }

    /// How every answer begins.
    pub(crate) fn head(&mut self) -> Result<Head, StoreError> {
        let (code, generation, sequence) = (self.small()?, self.exact()?, self.small()?);
        let told = self.small()?;
        Ok(Head {
            code,
            generation,
            sequence,
            loss: match told % LOSS_KINDS {
                1 => Loss::Gone,
                2 => Loss::WentBack,
                3 => Loss::NotRebuilt,
                _ => Loss::None,
            },
            loss_number: told / LOSS_KINDS,
            now: self.instant()?,
        })
    }
}

fn to_integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(integer) => Some((*integer).into()),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// A value's kind, for messages: values themselves may tell of customers.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "an integer",
        Value::BulkString(_) => "bytes",
        Value::Array(_) => "a list",
        Value::SimpleString(_) => "a word",
        _ => "another kind of value",
    }
}
