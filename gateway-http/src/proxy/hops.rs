//! Calls that come back: through an API whose base URL leads to the gateway itself, or round several.
//!
//! Each gateway adds a marker of its own to what it forwards and refuses what carries it already. The
//! list is bounded, so that gateways which do not see their own markers, such as several behind one
//! balancer, end a loop too. Markers say nothing of a client and are believed in nothing else.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header with the markers, oldest first.
pub const HOPS: HeaderName = HeaderName::from_static("x-rateguard-hops");

/// Gateways that one call may pass, one behind the other: a team's, a company's, and as many to spare.
pub const HOPS_MAX: usize = 4;

/// Bytes of a marker: enough that no two gateways draw the same.
const MARKER_BYTES: usize = 8;

/// How one gateway knows its own calls, drawn at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker(String);

/// A call that goes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoopError {
    /// It carries this gateway's own marker.
    #[error("this call has come through this gateway before: the API's base URL leads back to it")]
    Returned,
    /// It has come through as many gateways as it may.
    #[error("this call has come through {HOPS_MAX} gateways already: their APIs may lead to one another")]
    TooMany,
}

impl Marker {
    /// A new one.
    ///
    /// # Panics
    /// Where the system has no randomness, without which no TLS works either.
    pub fn draw() -> Self {
        let mut bytes = [0; MARKER_BYTES];
        getrandom::fill(&mut bytes).expect("the system has randomness, without which no TLS works either");
        Self(hex::encode(bytes))
    }

    /// What to send upstream: the markers that came, and this one. What is no marker is left out.
    ///
    /// # Errors
    /// [`LoopError`] for a call that must not go on.
    pub fn add_to(&self, client: &HeaderMap) -> Result<HeaderValue, LoopError> {
        let values = client.get_all(HOPS).iter().filter_map(|value| value.to_str().ok());
        let members = values.flat_map(|value| value.split(',')).map(str::trim);
        let mut markers: Vec<&str> = members.filter(|text| is_marker(text)).take(HOPS_MAX).collect();
        if markers.contains(&self.0.as_str()) {
            return Err(LoopError::Returned);
        }
        if markers.len() >= HOPS_MAX {
            return Err(LoopError::TooMany);
        }
        markers.push(&self.0);
        Ok(HeaderValue::from_str(&markers.join(", ")).expect("markers are hexadecimal digits"))
    }
}

fn is_marker(text: &str) -> bool {
    text.len() == 2 * MARKER_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HOPS, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_call_that_comes_back_is_known_wherever_its_marker_stands() {
        let (own, other) = (Marker::draw(), Marker::draw());
        assert_ne!(own, other);
        let once = own.add_to(&HeaderMap::new()).unwrap();
        assert_eq!(once, own.0.as_str());
        let twice = other.add_to(&carrying(&[once.to_str().unwrap()])).unwrap();
        assert_eq!(twice, format!("{}, {}", own.0, other.0).as_str());
        for values in [&[twice.to_str().unwrap()][..], &["x", &own.0], &[&other.0, &own.0]] {
            assert_eq!(own.add_to(&carrying(values)), Err(LoopError::Returned));
        }
    }

    #[test]
    fn gateways_that_do_not_know_one_another_end_a_loop_too() {
        let mut value = HeaderValue::from_static("");
        for _ in 0..HOPS_MAX {
            value = Marker::draw().add_to(&carrying(&[value.to_str().unwrap()])).unwrap();
        }
        assert_eq!(Marker::draw().add_to(&carrying(&[value.to_str().unwrap()])), Err(LoopError::TooMany));
    }

    #[test]
    fn what_is_no_marker_goes_no_further() {
        let own = Marker::draw();
        let sent = own.add_to(&carrying(&["", "a,b", "<script>", "0123456789abcdeg", "0123456789abcdef0"]));
        assert_eq!(sent.unwrap(), own.0.as_str());
    }
}
