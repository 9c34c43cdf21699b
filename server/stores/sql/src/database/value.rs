//! Values that a statement takes. They move into the driver's arguments when it is run; whether
//! that is SQLite's or PostgreSQL's is not known before.

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, Error};

/// One value, or the absence of one of its kind: PostgreSQL wants to know of which.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A whole number; truths are 0 and 1.
    Integer(Option<i64>),
    /// A text.
    Text(Option<String>),
    /// Bytes.
    Bytes(Option<Vec<u8>>),
}

/// What a statement takes.
pub(crate) trait Bind {
    /// The absence of such a value.
    const NULL: Value;

    /// The value.
    fn value(self) -> Value;
}

impl Bind for i64 {
    const NULL: Value = Value::Integer(None);

    fn value(self) -> Value {
        Value::Integer(Some(self))
    }
}

impl Bind for bool {
    const NULL: Value = Value::Integer(None);

    fn value(self) -> Value {
        Value::Integer(Some(i64::from(self)))
    }
}

impl Bind for String {
    const NULL: Value = Value::Text(None);

    fn value(self) -> Value {
        Value::Text(Some(self))
    }
}

impl Bind for &str {
    const NULL: Value = Value::Text(None);

    fn value(self) -> Value {
        Value::Text(Some(self.to_owned()))
    }
}

impl Bind for Vec<u8> {
    const NULL: Value = Value::Bytes(None);

    fn value(self) -> Value {
        Value::Bytes(Some(self))
    }
}

impl Bind for &[u8] {
    const NULL: Value = Value::Bytes(None);

    fn value(self) -> Value {
        Value::Bytes(Some(self.to_vec()))
    }
}

impl<T: Bind> Bind for Option<T> {
    const NULL: Value = T::NULL;

    fn value(self) -> Value {
        self.map_or(Self::NULL, T::value)
    }
}

/// Values as SQLite's driver takes them.
pub(super) fn to_sqlite(values: Vec<Value>) -> Result<SqliteArguments, Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        let added = match value {
            Value::Integer(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}

/// Values as PostgreSQL's driver takes them.
pub(super) fn to_postgres(values: Vec<Value>) -> Result<PgArguments, Error> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), values.iter().map(Value::size_bytes).sum());
    for value in values {
        let added = match value {
            Value::Integer(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        };
        added.map_err(Error::Encode)?;
    }
    Ok(arguments)
}

impl Value {
    /// About what PostgreSQL's protocol takes for it: the value and its length.
    fn size_bytes(&self) -> usize {
        let value = match self {
            Self::Integer(_) => size_of::<i64>(),
            Self::Text(text) => text.as_ref().map_or(0, String::len),
            Self::Bytes(bytes) => bytes.as_ref().map_or(0, Vec::len),
        };
        value + size_of::<i32>()
    }
}
