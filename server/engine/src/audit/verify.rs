//! Verifying the chains against themselves, against the second copy of their hashes, and against heads
//! that somebody has kept.
//!
//! It may run beside a server that writes. So what must still be there is read first, and what may be
//! younger is read last.

use std::collections::BTreeMap;
use std::fmt;

use super::{AuditEntry, AuditHead, GENESIS};
use crate::ports::{AuditLink, AuditStore, StoreError};

/// Findings that a report tells one by one; the others are only counted.
pub const FINDINGS_TOLD_MAX: usize = 1_000;
/// Entries read at once.
const ENTRIES_PER_READ: usize = 500;

/// What is wrong with a place of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The entry is not what its hash was made of, or cannot be read.
    Altered,
    /// The entry does not follow the one before it.
    Unchained,
    /// There is no such entry, and there are later ones.
    Missing,
    /// There is no such entry, and none after it: the end was cut off.
    CutOff,
    /// The second copy of the hashes does not have the entry.
    NotWitnessed,
    /// The second copy of the hashes has another entry in its place.
    WitnessDiffers,
    /// The chain's own head, or one that was kept, is another entry.
    HeadDiffers,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Altered => "was altered",
            Self::Unchained => "does not follow the entry before it",
            Self::Missing => "is missing",
            Self::CutOff => "is missing at the end of the chain",
            Self::NotWitnessed => "is not among the hashes kept in the other store",
            Self::WitnessDiffers => "is not the entry whose hash is kept in the other store",
            Self::HeadDiffers => "is not the entry that a head names",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub workspace: String,
    /// The place.
    pub sequence: u64,
    /// What is wrong there.
    pub problem: Problem,
}

/// A chain that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    /// How many entries it has.
    pub entries: u64,
    /// Its last entry: what to keep elsewhere.
    pub head: AuditHead,
}

/// What a verification has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every chain, in the order of workspaces.
    pub chains: Vec<VerifiedChain>,
    /// What is wrong, at most [`FINDINGS_TOLD_MAX`].
    pub findings: Vec<Finding>,
    /// How many things are wrong.
    pub findings_count: u64,
}

/// Verifies every chain. `kept` are heads from elsewhere that must be in them.
///
/// # Errors
/// Those of the store. What is wrong with the trail is no error, but a finding.
pub async fn verify(store: &dyn AuditStore, kept: &[AuditHead]) -> Result<Report, StoreError> {
    let mut heads = store.witnessed_heads().await?;
    heads.extend(store.audit_heads().await?);
    heads.extend_from_slice(kept);
    let mut by_chain: BTreeMap<String, Vec<AuditHead>> = BTreeMap::new();
    for head in heads {
        by_chain.entry(head.workspace.clone()).or_default().push(head);
    }
    for name in chains(store).await? {
        by_chain.entry(name).or_default();
    }
    let mut report = Report::default();
    for (workspace, heads) in by_chain {
        let walk = Walk { store, report: &mut report, heads, last: start(workspace), entries: 0 };
        walk.run().await?;
    }
    Ok(report)
}

/// Every chain that has an entry: one that somebody has put there by hand may have no head.
async fn chains(store: &dyn AuditStore) -> Result<Vec<String>, StoreError> {
    let mut chains: Vec<String> = Vec::new();
    while let Some(chain) = store.audit_chain_after(chains.last().map(String::as_str)).await? {
        chains.push(chain);
    }
    Ok(chains)
}

fn start(workspace: String) -> AuditHead {
    AuditHead { workspace, sequence: 0, hash: GENESIS }
}

/// A walk along one chain.
struct Walk<'s> {
    store: &'s dyn AuditStore,
    report: &'s mut Report,
    /// What must be in the chain.
    heads: Vec<AuditHead>,
    /// The entry that was seen last.
    last: AuditHead,
    entries: u64,
}

impl Walk<'_> {
    async fn run(mut self) -> Result<(), StoreError> {
        loop {
            let (workspace, after) = (&self.last.workspace, self.last.sequence);
            let links = self.store.audit_chain(workspace, after, ENTRIES_PER_READ).await?;
            let Some(through) = links.last().map(AuditLink::sequence) else { break };
            // An entry waits until it is witnessed, and is read before either is asked.
            let waiting = self.store.audit_unwitnessed(workspace).await?;
            let witnessed = self.store.witnessed(workspace, after, through).await?;
            for link in &links {
                self.step(link, &waiting, &witnessed);
            }
        }
        self.finish();
        Ok(())
    }

    fn step(&mut self, link: &AuditLink, waiting: &[AuditHead], witnessed: &[AuditHead]) {
        let sequence = link.sequence();
        let follows = sequence == self.last.sequence + 1;
        if !follows {
            self.find(self.last.sequence + 1, Problem::Missing);
        }
        self.entries += 1;
        let AuditLink::Entry(entry) = link else {
            self.last = AuditHead { sequence, hash: GENESIS, ..self.last.clone() };
            return self.find(sequence, Problem::Altered);
        };
        if entry.hash != entry.chained_hash() {
            self.find(sequence, Problem::Altered);
        }
        if follows && entry.previous_hash != self.last.hash {
            self.find(sequence, Problem::Unchained);
        }
        if let Some(problem) = against_witness(entry, waiting, witnessed) {
            self.find(sequence, problem);
        }
        if self.heads.iter().any(|head| head.sequence == sequence && head.hash != entry.hash) {
            self.find(sequence, Problem::HeadDiffers);
        }
        self.last = AuditHead { sequence, hash: entry.hash, ..self.last.clone() };
    }

    fn finish(mut self) {
        let furthest = self.heads.iter().map(|head| head.sequence).max().unwrap_or(0);
        if furthest > self.last.sequence {
            self.find(self.last.sequence + 1, Problem::CutOff);
        }
        self.report.chains.push(VerifiedChain { entries: self.entries, head: self.last });
    }

    fn find(&mut self, sequence: u64, problem: Problem) {
        self.report.findings_count += 1;
        if self.report.findings.len() < FINDINGS_TOLD_MAX {
            let workspace = self.last.workspace.clone();
            self.report.findings.push(Finding { workspace, sequence, problem });
        }
    }
}

fn against_witness(entry: &AuditEntry, waiting: &[AuditHead], witnessed: &[AuditHead]) -> Option<Problem> {
    let at =
        |heads: &[AuditHead]| heads.iter().find(|head| head.sequence == entry.sequence).map(|head| head.hash);
    match at(witnessed).or_else(|| at(waiting)) {
        None => Some(Problem::NotWitnessed),
        Some(hash) if hash != entry.hash => Some(Problem::WitnessDiffers),
        Some(_) => None,
    }
}
