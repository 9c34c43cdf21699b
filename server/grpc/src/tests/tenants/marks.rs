//! What a tenant is known by: texts that occur nowhere else, and that no answer to others may hold.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;
/// Spreads numbers over 32 bits, each to another place.
const SPREAD: u32 = 0x9e37_79b9;
/// What is added to each hexadecimal digit of a mark to make its twin.
const TWIN_STEP: u32 = 5;

/// Texts, by their length, so that a haystack is searched for all of them at once.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    by_length: BTreeMap<usize, BTreeSet<Vec<u8>>>,
}

impl Marks {
    /// A text that is in no other tenant.
    pub fn plant(&mut self, tag: &str, number: u32) -> String {
        let mark = format!("{tag}mk{:08x}", number.wrapping_mul(SPREAD));
        self.add(&mark);
        mark
    }

    pub fn add(&mut self, mark: &str) {
        self.by_length.entry(mark.len()).or_default().insert(mark.as_bytes().to_vec());
    }

    pub fn join(&mut self, others: &Self) {
        for (length, marks) in &others.by_length {
            self.by_length.entry(*length).or_default().extend(marks.iter().cloned());
        }
    }

    /// Those that are not among others.
    #[must_use]
    pub fn without(mut self, others: &Self) -> Self {
        for (length, marks) in &mut self.by_length {
            let others = others.by_length.get(length);
            marks.retain(|mark| others.is_none_or(|others| !others.contains(mark)));
        }
        self
    }

    pub fn len(&self) -> usize {
        self.by_length.values().map(BTreeSet::len).sum()
    }

    /// The ids that stand in a text, by their digits.
    pub fn ids_in(text: &str) -> Self {
        let mut marks = Self::default();
        for (place, _) in text.match_indices('_') {
            let digits = text.get(place + 1..place + 1 + ID_DIGITS).unwrap_or_default();
            let is_id = digits.len() == ID_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_id {
                marks.add(digits);
            }
        }
        marks
    }

    /// Those that stand in a haystack, also within its parts that are base64.
    pub fn found_in(&self, haystack: &[u8]) -> Self {
        let mut found = self.plainly_in(haystack);
        for decoded in decoded_parts(haystack) {
            found.join(&self.plainly_in(&decoded));
        }
        found
    }

    fn plainly_in(&self, haystack: &[u8]) -> Self {
        let mut found = Self::default();
        for (length, marks) in self.by_length.iter().filter(|(_, marks)| !marks.is_empty()) {
            let windows = haystack.windows(*length).filter(|window| marks.contains(*window));
            found.by_length.entry(*length).or_default().extend(windows.map(<[u8]>::to_vec));
        }
        found
    }

    /// The same bytes about things that were never there: each mark as another of its form.
    pub fn twin_of(&self, message: &[u8]) -> Vec<u8> {
        let mut twin = message.to_vec();
        for (length, marks) in &self.by_length {
            let places = 0..message.len().saturating_sub(length - 1);
            for place in places.filter(|place| marks.contains(&message[*place..place + length])) {
                twin[place..place + length].iter_mut().for_each(|byte| *byte = next_digit(*byte));
            }
        }
        twin
    }
}

impl std::fmt::Display for Marks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let marks = self.by_length.values().flatten().map(|mark| String::from_utf8_lossy(mark));
        formatter.write_str(&marks.collect::<Vec<_>>().join(", "))
    }
}

fn next_digit(byte: u8) -> u8 {
    let next = char::from(byte).to_digit(16).and_then(|d| char::from_digit((d + TWIN_STEP) % 16, 16));
    next.filter(|_| !byte.is_ascii_uppercase()).and_then(|c| u8::try_from(c).ok()).unwrap_or(byte)
}

/// What page tokens and the like hold.
fn decoded_parts(haystack: &[u8]) -> Vec<Vec<u8>> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let parts = haystack.split(|byte| !is_base64(byte)).filter(|part| part.len() > ID_DIGITS);
    // The length in front of a text may look like one of its characters.
    let shifted = parts.flat_map(|part| (0..4).map(move |skipped| &part[skipped..]));
    shifted
        .filter_map(|part| {
            URL_SAFE_NO_PAD.decode(&part[..part.len() - usize::from(part.len() % 4 == 1)]).ok()
        })
        .collect()
}
