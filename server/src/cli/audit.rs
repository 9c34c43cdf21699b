//! `rateguard audit verify`, `rateguard audit heads` and `rateguard audit list`: the audit trail of an
//! installation, in a data folder or in a database, read beside its servers or without one.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use prost_types::Timestamp;
use rateguard_core::ids::WorkspaceId;
use rateguard_engine::audit::{AuditEntry, AuditHead, AuditKind, INSTALLATION_CHAIN, Report, verify};
use rateguard_engine::listing::SequenceQuery;
use rateguard_engine::ports::{AuditFilter, AuditQuery};

use super::ConfigArgs;
use crate::wiring;

/// What stands for the installation's chain, whose name is empty.
const INSTALLATION: &str = "installation";
/// Longest file of heads that is read: a line has at most some 130 bytes.
const HEADS_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check that no entry of the audit trail was altered or taken out; fails when one was
    Verify(Verify),
    /// Print the last entry of every chain, to be kept on another machine
    Heads(Heads),
    /// List entries, newest first
    List(List),
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Verify(verify) => verify.run().await,
            Self::Heads(heads) => heads.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigArgs,
    /// A file of heads that `rateguard audit heads` has printed earlier: each must still be in its chain
    #[arg(long)]
    kept: Option<PathBuf>,
}

impl Verify {
    async fn run(self) -> anyhow::Result<()> {
        let kept = self.kept.as_deref().map(read_heads).transpose()?.unwrap_or_default();
        let trail = wiring::audit_trail(&self.config.load()?).await?;
        let report = verify(trail.as_ref(), &kept).await?;
        print_report(&report)?;
        match report.findings_count {
            0 => Ok(()),
            1 => bail!("the audit trail has a fault"),
            count => bail!("the audit trail has {count} faults"),
        }
    }
}

fn print_report(report: &Report) -> anyhow::Result<()> {
    for finding in &report.findings {
        let (chain, sequence) = (chain_name(&finding.workspace), finding.sequence);
        super::print(&format!("FAULT {chain}: entry {sequence} {}", finding.problem))?;
    }
    for chain in &report.chains {
        let head = &chain.head;
        let (name, hash) = (chain_name(&head.workspace), hex::encode(head.hash));
        super::print(&format!("{name}: {} entries, the last is {} {hash}", chain.entries, head.sequence))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(super) struct Heads {
    #[command(flatten)]
    config: ConfigArgs,
}

impl Heads {
    async fn run(self) -> anyhow::Result<()> {
        let trail = wiring::audit_trail(&self.config.load()?).await?;
        trail.audit_heads().await?.iter().try_for_each(|head| {
            let hash = hex::encode(head.hash);
            super::print(&format!("{} {} {hash}", chain_name(&head.workspace), head.sequence))
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whose entries: a workspace's id, or `installation` for what belongs to none
    #[arg(long, default_value = INSTALLATION)]
    workspace: String,
    /// Only what this key or person did
    #[arg(long)]
    actor: Option<String>,
    /// Only changes of this kind of thing, for example key
    #[arg(long)]
    kind: Option<Kind>,
    /// Only changes of the thing with this id
    #[arg(long)]
    id: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A kind of thing, by its name.
#[derive(Clone, Copy, Debug)]
struct Kind(AuditKind);

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || AuditKind::ALL.map(AuditKind::as_str).join(", ");
        let known = AuditKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.map(Self).ok_or_else(|| format!("must be one of {}", names()))
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let workspace = match self.workspace.as_str() {
            INSTALLATION => None,
            id => Some(WorkspaceId::parse("--workspace", id)?),
        };
        let kind = self.kind.map(|Kind(kind)| kind);
        let filter = AuditFilter { actor_id: self.actor, kind, id: self.id, at: None };
        let trail = wiring::audit_trail(&self.config.load()?).await?;
        let query =
            AuditQuery { filter, part: SequenceQuery { limit: self.limit, ..SequenceQuery::default() } };
        let entries = trail.audit_entries(workspace.as_ref(), &query).await?;
        let line = if self.json { as_json } else { as_text };
        entries.iter().try_for_each(|entry| super::print(&line(entry)))
    }
}

fn as_text(entry: &AuditEntry) -> String {
    let what = match (&entry.before, &entry.after) {
        (None, _) => "+",
        (_, None) => "-",
        _ => "~",
    };
    format!(
        "{:6} {} {:8} {:40} {what} {:14} {:40} {}",
        entry.sequence,
        instant(entry),
        entry.actor_kind,
        entry.actor_id,
        entry.kind,
        entry.id,
        entry.method
    )
}

fn instant(entry: &AuditEntry) -> Timestamp {
    let (seconds, ms) = (entry.at.get().div_euclid(1_000), entry.at.get().rem_euclid(1_000));
    Timestamp { seconds, nanos: i32::try_from(ms).unwrap_or(0) * 1_000_000 }
}

fn as_json(entry: &AuditEntry) -> String {
    serde_json::json!({
        "workspace": chain_name(&entry.workspace),
        "sequence": entry.sequence,
        "at_ms": entry.at.get(),
        "actor_kind": entry.actor_kind,
        "actor_id": entry.actor_id,
        "method": entry.method,
        "kind": entry.kind,
        "id": entry.id,
        "before": entry.before,
        "after": entry.after,
        "ip": entry.ip,
        "user_agent": entry.user_agent,
        "request_id": entry.request_id,
        "previous_hash": hex::encode(entry.previous_hash),
        "hash": hex::encode(entry.hash),
    })
    .to_string()
}

fn chain_name(workspace: &str) -> &str {
    if workspace == INSTALLATION_CHAIN { INSTALLATION } else { workspace }
}

fn read_heads(path: &Path) -> anyhow::Result<Vec<AuditHead>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let size = std::fs::metadata(path).with_context(unreadable)?.len();
    ensure!(size <= HEADS_BYTES_MAX, "{} is too large for a file of heads", path.display());
    let text = std::fs::read_to_string(path).with_context(unreadable)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| head(line).with_context(|| format!("{line:?} is no head of an audit chain"))).collect()
}

fn head(line: &str) -> anyhow::Result<AuditHead> {
    let parts: Vec<&str> = line.split_whitespace().collect();
    let [chain, sequence, hash] = parts.as_slice() else { bail!("it has {} words, not 3", parts.len()) };
    let workspace = if *chain == INSTALLATION { INSTALLATION_CHAIN } else { *chain };
    let mut bytes = [0; 32];
    hex::decode_to_slice(hash, &mut bytes)?;
    Ok(AuditHead { workspace: workspace.to_owned(), sequence: sequence.parse()?, hash: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_from_its_line() {
        let hash = "ab".repeat(32);
        let read = head(&format!("ws_1 7 {hash}")).unwrap();
        assert_eq!(read, AuditHead { workspace: "ws_1".to_owned(), sequence: 7, hash: [0xab; 32] });
        assert_eq!(head(&format!("installation 1 {hash}")).unwrap().workspace, INSTALLATION_CHAIN);
        for line in ["", "ws_1 7", "ws_1 x 00", &format!("ws_1 7 {hash}00"), &format!("ws_1 -1 {hash}")] {
            assert!(head(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_kind_is_known_by_its_name_alone() {
        assert_eq!("key".parse::<Kind>().unwrap().0, AuditKind::Key);
        assert!("keys".parse::<Kind>().unwrap_err().contains("price_override"));
    }
}
