//! The largest change that a workspace may make at once: it has to fit into the deadline of one call, while
//! every other writer waits.

use rateguard_core::ids::{ApiId, KeyId, WorkspaceId};
use rateguard_core::matching::Match;
use rateguard_core::rule::{Budget, Rule};
use rateguard_core::time::Millis;
use rateguard_engine::audit::Deed;
use rateguard_engine::manage::CONFIGURATION_RESOURCES_MAX;
use rateguard_engine::ports::{
    AuditStore, ConfigStore, Resource, ResourceChange, ResourcePlace, StoreError, Stored, has_gap,
};
use rateguard_engine::resources::Key;
use rateguard_store_sql::{SqlConfigStore, SqlEventLog};
use rateguard_store_suite::config_store::samples::{api, budget, key, rule, workspace};

use super::on_server::OnServer;

/// APIs, rules and budgets, each as many as a workspace may have. The rest are keys.
const OF_EACH: usize = 1_000;

fn by() -> Deed {
    Deed::of_server("Test", Millis::new(1))
}

fn owner() -> WorkspaceId {
    workspace("ws_1").id
}

/// A whole workspace: everything but the APIs names something else.
fn everything() -> Vec<Resource> {
    let apis = |number: usize| vec![ApiId::parse("apis", &format!("api_{}", number % OF_EACH)).unwrap()];
    let keys = vec![KeyId::parse("keys", "key_0").unwrap()];
    let matches = |number| Match { apis: apis(number), keys: keys.clone(), ..Match::default() };
    let an_api = |number| Resource::Api(api(&format!("api_{number}"), &format!("slug-{number}")));
    let a_key = |number: usize| {
        let mut secret_sha256 = [0; 32];
        secret_sha256[..8].copy_from_slice(&number.to_be_bytes());
        let id = format!("key_{number}");
        Resource::Key(Key { secret_sha256, previous: None, apis: apis(number), ..key(&id, 0) })
    };
    let a_rule =
        |number| Resource::Rule(Rule { matches: matches(number), ..rule(&format!("rule_{number}")) });
    let a_budget =
        |number| Resource::Budget(Budget { matches: matches(number), ..budget(&format!("bud_{number}")) });
    let keys = CONFIGURATION_RESOURCES_MAX - 3 * OF_EACH;
    let others = (0..OF_EACH).flat_map(|number| [an_api(number), a_rule(number), a_budget(number)]);
    others.chain((0..keys).map(a_key)).collect()
}

async fn apply(store: &SqlConfigStore, changes: Vec<ResourceChange>) -> Vec<Stored<Resource>> {
    let seen = store.workspace_state(&owner(), 1).await.unwrap().revision;
    store.apply_all(&owner(), changes, seen, &by()).await.unwrap()
}

/// As whoever follows the changes reads what they name: one call has ten seconds, and this build takes one for so many.
const READ_AT_ONCE: usize = 1_000;

#[tokio::test]
async fn as_many_resources_as_may_be_applied_at_once_fit_into_one_call() -> Result<(), StoreError> {
    let on = OnServer::fresh().await;
    let database = on.database();
    let log = SqlEventLog::open_on_server(&database).await.expect("the log opens");
    let store = SqlConfigStore::open_on_server(&database, &log).await.expect("the store opens");
    store.create_workspace(workspace("ws_1"), &by()).await?;
    let limit = CONFIGURATION_RESOURCES_MAX;
    let insert = |resource| ResourceChange::Insert { resource, limit };
    let made = apply(&store, everything().into_iter().map(insert).collect()).await;
    assert_eq!(made.len(), limit);

    let places: Vec<ResourcePlace> = made
        .iter()
        .map(|stored| ResourcePlace {
            workspace: owner(),
            kind: stored.value.kind(),
            id: stored.value.id().to_owned(),
        })
        .collect();
    let mut found = Vec::new();
    for places in places.chunks(READ_AT_ONCE) {
        found.extend(store.get_all(places).await?);
    }
    let place = |stored: &Stored<Resource>| (stored.value.kind(), stored.value.id().to_owned());
    found.sort_by_key(place);
    let mut expected = made.clone();
    expected.sort_by_key(place);
    assert_eq!(found, expected);

    let replace = |stored: Stored<Resource>| ResourceChange::Replace { resource: stored.value, expected: 1 };
    let replaced = apply(&store, made.into_iter().map(replace).collect()).await;
    assert!(replaced.iter().all(|stored| stored.version == 2));

    let remove = |stored: Stored<Resource>| ResourceChange::Remove {
        kind: stored.value.kind(),
        id: stored.value.id().to_owned(),
        expected: Some(2),
    };
    assert_eq!(apply(&store, replaced.into_iter().map(remove).collect()).await, []);
    assert_eq!(store.snapshot().await?.resources, []);

    let feed = store.changes_after(0, 4 * limit).await?;
    assert_eq!((feed.len(), has_gap(0, &feed)), (3 * limit, false));
    let heads = store.audit().audit_heads().await?;
    assert_eq!(heads[0].sequence, 3 * limit as u64 + 1);
    store.close().await;
    log.close().await;
    Ok(())
}
