//! What the engine knows of every workspace: its plan, APIs, prices and keys, in memory, swapped
//! whole when the configuration changes.

mod feed;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use rateguard_core::counter::CounterFamily;
use rateguard_core::ids::{ApiId, BudgetId, WorkspaceId};
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_core::money::Currency;
use rateguard_core::plan::{Plan, plan_budget};
use rateguard_core::pricing::{ModelQuery, PriceBook, PriceSheet, find_price};
use rateguard_core::rule::{Budget, BudgetPeriod, Rule};
use rateguard_core::time::Millis;
use rateguard_core::usage::PriceRef;
use tokio::sync::{Mutex, watch};

use crate::key_uses::LastUse;
use crate::ports::{ConfigStore, LiveBudgets, Resource, ResourceKind, ResourcePlace, StoreError, Stored};
use crate::pulse::{Pulse, StoreState};
use crate::resources::{Api, Key, PriceOverride, Workspace};
use feed::Feed;

/// How long a key that was deleted still tells whom a call that it admitted belongs to: as long as
/// such a call's reservation may live.
const DEPARTED_KEY_MS: i64 = RESERVATION_TTL_MS_MAX;
/// Deleted keys kept for that; beyond it the oldest are forgotten.
const DEPARTED_KEYS_MAX: usize = 10_000;

/// One workspace, compiled, for one revision of its configuration.
#[derive(Debug)]
pub struct WorkspaceView {
    /// The workspace itself.
    pub workspace: Workspace,
    /// Its limits.
    pub plan: Plan,
    /// Its own prices, which go before the catalogue's.
    pub overrides: PriceBook,
    /// The list prices, in USD.
    pub catalogue: Arc<PriceBook>,
    apis: HashMap<ApiId, Arc<Stored<Api>>>,
    slugs: HashMap<String, ApiId>,
    /// The counters' families of all budgets, in force or not.
    budgets: Arc<HashSet<CounterFamily>>,
}

impl WorkspaceView {
    /// The price of a model at an instant. List prices are in USD: in another currency only the
    /// workspace's own count.
    pub fn price(&self, query: &ModelQuery<'_>) -> Option<&PriceSheet> {
        if self.workspace.currency == Currency::USD {
            return find_price(&self.overrides, &self.catalogue, query);
        }
        self.overrides.find(query)
    }

    /// A version of a price, by its reference.
    pub fn price_version(&self, reference: &PriceRef) -> Option<&PriceSheet> {
        self.overrides.version(reference).or_else(|| {
            let listed = self.catalogue.version(reference);
            listed.filter(|_| self.workspace.currency == Currency::USD)
        })
    }

    /// An API by its id or its slug.
    pub fn api(&self, id_or_slug: &str) -> Option<&Arc<Stored<Api>>> {
        match self.slugs.get(id_or_slug) {
            Some(id) => self.apis.get(id),
            None => ApiId::parse("api", id_or_slug).ok().and_then(|id| self.apis.get(&id)),
        }
    }
}

/// A key with the workspace that it belongs to.
#[derive(Clone, Debug)]
pub struct KnownKey {
    /// The tenant.
    pub workspace: WorkspaceId,
    /// The key.
    pub key: Arc<Key>,
    /// When it was last noted as used.
    pub last_use: LastUse,
}

/// A key that was deleted, or whose secret was replaced.
struct DepartedKey {
    secret_sha256: [u8; 32],
    known: KnownKey,
    at: Millis,
}

type Views = HashMap<WorkspaceId, Arc<WorkspaceView>>;

/// The configuration in memory.
pub struct Directory {
    store: Arc<dyn ConfigStore>,
    catalogue: Arc<PriceBook>,
    views: ArcSwap<Views>,
    keys: RwLock<HashMap<[u8; 32], KnownKey>>,
    departed: RwLock<VecDeque<DepartedKey>>,
    /// Never held while the store is asked.
    loaded: Mutex<Loaded>,
    /// How far the feed has been taken in. Whoever reads it holds this.
    feed: Mutex<Feed>,
    revision: watch::Sender<u64>,
    /// When the store was last known to agree with what is in memory.
    pulse: Pulse,
}

/// The resources behind the views, by workspace and id.
#[derive(Default)]
struct Loaded {
    workspaces: HashMap<WorkspaceId, Workspace>,
    resources: HashMap<WorkspaceId, Resources>,
    /// Versions that were put in force before the feed told of them.
    ahead: HashMap<ResourcePlace, u64>,
}

#[derive(Default)]
struct Resources {
    apis: BTreeMap<String, Arc<Stored<Api>>>,
    keys: BTreeMap<String, Arc<Key>>,
    rules: BTreeMap<String, Rule>,
    budgets: BTreeMap<String, Budget>,
    prices: BTreeMap<String, PriceOverride>,
}

impl Directory {
    /// Loads everything.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn load(
        store: Arc<dyn ConfigStore>,
        catalogue: Arc<PriceBook>,
        now: Millis,
    ) -> Result<Self, StoreError> {
        let snapshot = store.snapshot().await?;
        let directory = Self {
            store,
            catalogue,
            views: ArcSwap::default(),
            keys: RwLock::default(),
            departed: RwLock::default(),
            loaded: Mutex::default(),
            feed: Mutex::default(),
            revision: watch::Sender::new(0),
            pulse: Pulse::new(now),
        };
        directory.feed.lock().await.begin_at(snapshot.revision);
        directory.take_in_all(snapshot, now).await;
        Ok(directory)
    }

    /// A workspace, as of now.
    pub fn view(&self, workspace: &WorkspaceId) -> Option<Arc<WorkspaceView>> {
        self.views.load().get(workspace).cloned()
    }

    /// A key by the hash of its secret.
    pub fn key(&self, secret_sha256: &[u8; 32]) -> Option<KnownKey> {
        self.keys.read().get(secret_sha256).cloned()
    }

    /// The same for what follows a call: also a key that was deleted while the call ran.
    pub fn key_after_call(&self, secret_sha256: &[u8; 32], now: Millis) -> Option<KnownKey> {
        self.key(secret_sha256).or_else(|| {
            let departed = self.departed.read();
            let found = departed.iter().rev().find(|key| key.secret_sha256 == *secret_sha256)?;
            (now.since(found.at) < DEPARTED_KEY_MS).then(|| found.known.clone())
        })
    }

    /// Active budgets that have not opened.
    pub async fn closed_budgets(&self) -> Vec<(WorkspaceId, BudgetId)> {
        let closed = self.budgets(|_, budget| budget.active && budget.opened_after.is_none()).await;
        closed.into_iter().map(|(workspace, budget)| (workspace, budget.id)).collect()
    }

    /// The budgets that pass a test, in force or not.
    pub(crate) async fn budgets(
        &self,
        passes: impl Fn(&WorkspaceId, &Budget) -> bool,
    ) -> Vec<(WorkspaceId, Budget)> {
        let loaded = self.loaded.lock().await;
        let of_one = |(workspace, resources): (&WorkspaceId, &Resources)| {
            let passing = resources.budgets.values().filter(|budget| passes(workspace, budget));
            passing.map(|budget| (workspace.clone(), budget.clone())).collect::<Vec<_>>()
        };
        loaded.resources.iter().flat_map(of_one).collect()
    }

    /// How long the store has not confirmed what is in memory.
    pub fn age_ms(&self, now: Millis) -> i64 {
        self.pulse.age_ms(now)
    }

    /// How the store stands.
    pub fn store_state(&self, now: Millis) -> StoreState {
        self.pulse.state("config", now)
    }

    /// Tells the revision in memory whenever it moves.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Takes a workspace in that is new, or has changed.
    pub async fn put_workspace(&self, workspace: Workspace, now: Millis) {
        let mut loaded = self.loaded.lock().await;
        let id = workspace.id.clone();
        loaded.resources.entry(id.clone()).or_default();
        loaded.workspaces.insert(id.clone(), workspace);
        self.swap(&loaded, &[id], now);
    }

    /// The same for one that is told of by what belongs to it: what people changed of it meanwhile stays.
    async fn put_workspace_if_new(&self, workspace: Workspace, now: Millis) {
        let mut loaded = self.loaded.lock().await;
        let id = workspace.id.clone();
        if !loaded.workspaces.contains_key(&id) {
            loaded.resources.entry(id.clone()).or_default();
            loaded.workspaces.insert(id.clone(), workspace);
            self.swap(&loaded, &[id], now);
        }
    }

    /// Puts a resource in force that is stored already, without asking the store. The feed names it
    /// again; whoever has read it before it was stored does not put it back.
    pub(crate) async fn put_in_force(&self, stored: Stored<Resource>, now: Millis) {
        let mut loaded = self.loaded.lock().await;
        let workspace = stored.workspace.clone();
        loaded.ahead.insert(place_of(&stored), stored.version);
        self.put(&mut loaded, stored, now);
        self.swap(&loaded, &[workspace], now);
    }

    fn put(&self, loaded: &mut Loaded, stored: Stored<Resource>, now: Millis) {
        let Stored { workspace, value, version, created_at, updated_at } = stored;
        let resources = loaded.resources.entry(workspace.clone()).or_default();
        let id = value.id().to_owned();
        match value {
            Resource::Api(api) => {
                let api = Stored { workspace, value: api, version, created_at, updated_at };
                resources.apis.insert(id, Arc::new(api));
            }
            Resource::Key(key) => {
                let key = Arc::new(key);
                let before = resources.keys.insert(id, key.clone());
                self.forget_secrets(&workspace, before, Some(&key), now);
                let known = KnownKey { workspace, key, last_use: LastUse::default() };
                self.keys.write().extend(known.key.hashes().map(|hash| (hash, known.clone())));
            }
            Resource::Rule(rule) => drop(resources.rules.insert(id, rule)),
            Resource::Budget(budget) => drop(resources.budgets.insert(id, budget)),
            Resource::PriceOverride(price) => drop(resources.prices.insert(id, price)),
        }
    }

    fn take_out(&self, loaded: &mut Loaded, place: &ResourcePlace, now: Millis) {
        let ResourcePlace { workspace, kind, id } = place;
        loaded.ahead.remove(place);
        let resources = loaded.resources.entry(workspace.clone()).or_default();
        match kind {
            ResourceKind::Api => drop(resources.apis.remove(id)),
            ResourceKind::Key => self.forget_secrets(workspace, resources.keys.remove(id), None, now),
            ResourceKind::Rule => drop(resources.rules.remove(id)),
            ResourceKind::Budget => drop(resources.budgets.remove(id)),
            ResourceKind::PriceOverride => drop(resources.prices.remove(id)),
        }
    }

    /// Forgets the secrets that a key had and has no more.
    fn forget_secrets(
        &self,
        workspace: &WorkspaceId,
        before: Option<Arc<Key>>,
        after: Option<&Key>,
        now: Millis,
    ) {
        let Some(before) = before else { return };
        let goes_on = |hash: &[u8; 32]| after.is_some_and(|after| after.hashes().any(|kept| kept == *hash));
        for secret_sha256 in before.hashes().filter(|hash| !goes_on(hash)) {
            let known =
                KnownKey { workspace: workspace.clone(), key: before.clone(), last_use: LastUse::default() };
            self.forget_secret(secret_sha256, known, now);
        }
    }

    fn forget_secret(&self, secret_sha256: [u8; 32], known: KnownKey, now: Millis) {
        let mut departed = self.departed.write();
        let over = |oldest: &DepartedKey| now.since(oldest.at) >= DEPARTED_KEY_MS;
        while departed.len() >= DEPARTED_KEYS_MAX || departed.front().is_some_and(over) {
            departed.pop_front();
        }
        departed.push_back(DepartedKey { secret_sha256, known, at: now });
        self.keys.write().remove(&secret_sha256);
    }

    fn swap(&self, loaded: &Loaded, touched: &[WorkspaceId], now: Millis) {
        let mut views: Views = self.views.load().as_ref().clone();
        for id in touched {
            if let (Some(workspace), Some(resources)) = (loaded.workspaces.get(id), loaded.resources.get(id))
            {
                views.insert(id.clone(), Arc::new(self.compile(workspace, resources, now)));
            }
        }
        self.views.store(Arc::new(views));
    }

    fn compile(&self, workspace: &Workspace, resources: &Resources, now: Millis) -> WorkspaceView {
        let rules: Vec<Rule> = resources.rules.values().cloned().collect();
        let budgets: Vec<Budget> = resources.budgets.values().filter(|b| may_count(b)).cloned().collect();
        let overrides = resources.prices.values().map(|price| price.sheet.clone()).collect();
        let family = |budget| plan_budget(&workspace.id, &workspace.zone, budget, now).family();
        WorkspaceView {
            budgets: Arc::new(budgets.iter().map(family).collect()),
            workspace: workspace.clone(),
            plan: Plan::compile(&workspace.id, &workspace.zone, &rules, &budgets, now),
            overrides: PriceBook::new(overrides),
            catalogue: self.catalogue.clone(),
            apis: resources.apis.values().map(|api| (api.value.id.clone(), api.clone())).collect(),
            slugs: resources
                .apis
                .values()
                .map(|api| (api.value.slug.as_str().to_owned(), api.value.id.clone()))
                .collect(),
        }
    }
}

fn place_of(stored: &Stored<Resource>) -> ResourcePlace {
    let (workspace, value) = (stored.workspace.clone(), &stored.value);
    ResourcePlace { workspace, kind: value.kind(), id: value.id().to_owned() }
}

impl Resources {
    /// Every place that is taken.
    fn places(&self, workspace: &WorkspaceId) -> Vec<ResourcePlace> {
        let ids = [
            (ResourceKind::Api, self.apis.keys().collect::<Vec<_>>()),
            (ResourceKind::Key, self.keys.keys().collect()),
            (ResourceKind::Rule, self.rules.keys().collect()),
            (ResourceKind::Budget, self.budgets.keys().collect()),
            (ResourceKind::PriceOverride, self.prices.keys().collect()),
        ];
        let place = |kind, id: &String| ResourcePlace { workspace: workspace.clone(), kind, id: id.clone() };
        ids.into_iter().flat_map(|(kind, ids)| ids.into_iter().map(move |id| place(kind, id))).collect()
    }
}

/// Whether records may be charged to a budget. What is charged to one of a calendar before it opens
/// is replaced by its opening's sum; a prepaid one would keep it.
fn may_count(budget: &Budget) -> bool {
    budget.opened_after.is_some() || !matches!(budget.period, BudgetPeriod::Prepaid)
}

impl LiveBudgets for Directory {
    fn families(&self, workspace: &WorkspaceId) -> Option<Arc<HashSet<CounterFamily>>> {
        self.view(workspace).map(|view| view.budgets.clone())
    }
}

#[cfg(test)]
mod tests;
