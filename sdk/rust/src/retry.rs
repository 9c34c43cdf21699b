//! Deadlines, and the same question again where the server was away for a moment.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};

use crate::error::Error;

/// Questions for one answer, the first included.
const TRIES_MAX: u32 = 4;
/// Longest wait before the second try; it doubles with each. The wait is somewhere in the upper half of it,
/// so that clients that lost a server together do not come back together.
const PAUSE: Duration = Duration::from_millis(50);
/// Parts that a wait is drawn in.
const JITTER_PARTS: u32 = 256;

/// Asks until there is an answer, the server is at fault for good, or the time is over. Each question is the
/// same, with the same id.
pub(crate) async fn ask<M, T, F>(
    message: &M,
    within: Duration,
    mut send: impl FnMut(Request<M>) -> F,
) -> Result<T, Error>
where
    M: Clone,
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + within;
    let mut tries = 1;
    loop {
        let mut request = Request::new(message.clone());
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let answered = timeout_at(deadline, send(request)).await.map_err(|_| Error::Deadline)?;
        let error = match answered {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => Error::from(status),
        };
        // The transport and the server keep the same time, and break off by themselves.
        if matches!(error, Error::Lost { .. }) && Instant::now() >= deadline {
            return Err(Error::Deadline);
        }
        let pause = pause(tries, &error)?;
        if !error.is_passing() || tries == TRIES_MAX || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tries += 1;
        sleep(pause).await;
    }
}

/// As long as the server says, or longer.
fn pause(tries: u32, error: &Error) -> Result<Duration, Error> {
    let most = PAUSE * 2_u32.saturating_pow(tries - 1);
    let [drawn] = random::<1>()?;
    let drawn = most / 2 + most / 2 * u32::from(drawn) / JITTER_PARTS;
    match error {
        Error::Refused { retry_after: Some(told), .. } => Ok(*told + drawn),
        _ => Ok(drawn),
    }
}

/// An id that nobody else draws.
pub(crate) fn random_id() -> Result<String, Error> {
    Ok(format!("{:032x}", u128::from_be_bytes(random::<16>()?)))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
