//! What earlier versions have written stays, whichever of them it was: the rows here are as the first
//! version wrote them, and every later schema is come to with them in place.

use rateguard_core::ids::PriceId;
use rateguard_engine::ports::Stored;
use rateguard_engine::resources::Scope as KeyScope;
use sqlx::AssertSqlSafe;

use super::*;
use crate::database::Kind;
use crate::testing::{empty_database, histories};

/// When the workspace was made.
const MADE_AT: i64 = 1_795_251_222_808;
/// The hash of the key's secret.
const SECRET_SHA256: [u8; 32] = [0x44; 32];
/// A credential, sealed.
const SEALED: &str = "9b6b77d68d3c4bb0d02be57e1198006b04d12c4a74fa6e5b5beb716aa2035390d7cc040ddb9e8692";

const EVERYTHING: &str = r#"{"apis":[],"endpoints":[],"methods":[],"models":[],"keys":[],"ip_ranges":[],"subjects":[],"attributes":[]}"#;

/// The table, what is unique, the id and the body.
fn rows(kind: Kind) -> [(&'static str, String, &'static str, String); 6] {
    let secret = match kind {
        Kind::Sqlite => format!(", x'{}'", hex::encode(SECRET_SHA256)),
        Kind::Postgres => format!(", decode('{}', 'hex')", hex::encode(SECRET_SHA256)),
    };
    let one_counter = r#"{"dimensions":[],"on_missing":"shared"}"#;
    [
        ("apis", ", 'demo-openai'".to_owned(), "api_1", format!(r#"{{"display_name":"OpenAI","base_url":"https://api.example.com","dialect":"open_ai","auth":"bearer","sealed_credential_hex":"{SEALED}","timeout_ms":60000,"allow_private_upstream":true,"price_per_request_picos":null,"unknown_price":"allow_and_flag","output_tokens_default":null,"show_spend":true,"active":true}}"#)),
        ("keys", secret, "key_1", r#"{"display_name":"first manage key","prefix":"rg_live_nxM7","label":"live","scopes":["manage","read"],"apis":["api_1"],"models":[],"ip_ranges":[],"bound_subject":null,"allow_subject_header":false,"expires_at_ms":null,"active":true}"#.to_owned()),
        ("rules", String::new(), "rule_1", format!(r#"{{"name":"requests per key","matches":{EVERYTHING},"scope":{{"dimensions":["key"],"on_missing":"shared"}},"unit":"requests","algorithm":{{"token_bucket":{{"capacity":200,"refill_units":1,"refill_period_ms":10}}}},"enforcement":"enforced","priority":0,"override_group":null,"active":true}}"#)),
        ("budgets", String::new(), "bud_1", format!(r#"{{"name":"month of the workspace","matches":{EVERYTHING},"scope":{one_counter},"amount_nanos":100000000000,"period":{{"calendar":{{"period":"month","zone":null}}}},"enforcement":"enforced","active":true,"opened_after":7}}"#)),
        ("budgets", String::new(), "bud_2", format!(r#"{{"name":"prepaid","matches":{EVERYTHING},"scope":{one_counter},"amount_nanos":5,"period":"prepaid","enforcement":"enforced","active":true,"opened_after":0}}"#)),
        ("price_overrides", String::new(), "price_1", r#"{"price_version":2,"provider":"openai","model":"gpt-4o","token_rates_picos":{"input":2500000,"output":10000000,"cached_input":null,"cache_write_5m":null,"cache_write_1h":null,"reasoning":null,"audio_input":null,"audio_output":null},"per_request_picos":null,"per_unit_picos":[],"input_tokens_max":null,"output_tokens_max":null,"priced_input_tokens_max":null,"effective_from_ms":1795251222808}"#.to_owned()),
    ]
}

/// Writes what the first version wrote.
async fn write_first_rows(database: &Database) {
    let mut transaction = database.begin(Scope::Installation).await.unwrap();
    let kind = transaction.kind();
    let mut statements = vec![format!(
        "INSERT INTO workspaces (id, name, zone, currency, created_at) \
         VALUES ('ws_1', 'demo', 'Europe/Berlin', 'EUR', {MADE_AT})"
    )];
    for (revision, (table, unique, id, body)) in (1..).zip(rows(kind)) {
        let column = match table {
            "apis" => ", slug",
            "keys" => ", secret_sha256",
            _ => "",
        };
        statements.push(format!(
            "INSERT INTO {table} (workspace_id, id, version, created_at, updated_at, body_version, body{column}) \
             VALUES ('ws_1', '{id}', 3, {MADE_AT}, {MADE_AT}, 1, '{body}'{unique})"
        ));
        statements.push(format!(
            "INSERT INTO changes (revision, workspace_id, kind, id, changed_at) \
             VALUES ({revision}, 'ws_1', '{}', '{id}', {MADE_AT})",
            table.trim_end_matches('s')
        ));
    }
    statements.push("UPDATE revisions SET revision = 6".to_owned());
    for statement in statements {
        query(AssertSqlSafe(statement)).execute(&mut transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// What the present version makes of it: everything is there, and can be changed.
async fn has_everything(store: &SqlConfigStore) {
    let snapshot = store.snapshot().await.unwrap();
    assert_eq!(snapshot.revision, 6);
    let [workspace] = &snapshot.workspaces[..] else { panic!("{:?}", snapshot.workspaces) };
    assert_eq!((workspace.zone.name(), workspace.currency.as_str()), ("Europe/Berlin", "EUR"));
    let ids: Vec<&str> = snapshot.resources.iter().map(|stored| stored.value.id()).collect();
    assert_eq!(ids, ["api_1", "key_1", "rule_1", "bud_1", "bud_2", "price_1"]);
    assert!(snapshot.resources.iter().all(|stored| {
        (stored.version, stored.created_at.get(), stored.updated_at.get()) == (3, MADE_AT, MADE_AT)
    }));
    for stored in &snapshot.resources {
        is_as_it_was(&stored.value);
    }
    assert_eq!(store.changes_after(0, 100).await.unwrap().len(), 6);
    let Stored { workspace, value, version, .. } = snapshot.resources[3].clone();
    assert_eq!(store.replace(&workspace, value, version, &by()).await.unwrap().version, 4);
    takes_another_price(store, snapshot.resources[5].clone()).await;
}

/// The model that had one price has room for one from another instant on, and for none from the same.
async fn takes_another_price(store: &SqlConfigStore, stored: Stored<Resource>) {
    let Resource::PriceOverride(mut price) = stored.value else { panic!("{stored:?}") };
    price.sheet.reference.id = PriceId::parse("id", "price_2").unwrap();
    let mut insert = async |from_ms| {
        price.sheet.effective_from = Millis::new(from_ms);
        store.insert(&stored.workspace, Resource::PriceOverride(price.clone()), 10, &by()).await.map(drop)
    };
    assert_eq!(insert(MADE_AT).await, Err(StoreError::AlreadyExists { field: "effective_from" }));
    assert_eq!(insert(MADE_AT + 1).await, Ok(()));
}

fn is_as_it_was(resource: &Resource) {
    match resource {
        Resource::Api(api) => {
            let sealed = api.credential.as_ref().map(|sealed| hex::encode(&sealed.0));
            assert_eq!((sealed.as_deref(), api.slug.as_str()), (Some(SEALED), "demo-openai"));
        }
        Resource::Key(key) => {
            assert_eq!(key.secret_sha256, SECRET_SHA256);
            assert_eq!(key.scopes, [KeyScope::Manage, KeyScope::Read].into_iter().collect());
            assert_eq!(key.apis[0].as_str(), "api_1");
        }
        Resource::Rule(rule) => assert_eq!(rule.name.as_str(), "requests per key"),
        Resource::Budget(budget) if budget.id.as_str() == "bud_1" => {
            assert_eq!(
                (budget.amount.get(), budget.opened_after.map(|place| place.0)),
                (100_000_000_000, Some(7))
            );
        }
        Resource::Budget(budget) => assert_eq!(budget.amount.get(), 5),
        Resource::PriceOverride(price) => {
            let reference = &price.sheet.reference;
            assert_eq!((reference.id.as_str(), reference.version), ("price_1", 2));
            assert_eq!(price.sheet.effective_from.get(), MADE_AT);
        }
    }
}

#[tokio::test]
async fn what_any_earlier_version_left_in_a_folder_is_there_after_the_upgrade() {
    for history in histories(&MIGRATOR) {
        let folder = tempfile::tempdir().unwrap();
        let home = DataFolder::open(folder.path()).unwrap();
        let before = Database::open(&home, &Schema { migrator: history, ..SCHEMA }).await.unwrap();
        write_first_rows(&before).await;
        before.close().await;
        let log = SqlEventLog::open(&home).await.unwrap();
        has_everything(&SqlConfigStore::open(&home, &log).await.unwrap()).await;
    }
}

#[tokio::test]
async fn what_any_earlier_version_left_on_a_server_is_there_after_the_upgrade() {
    for history in histories(&SERVER_MIGRATOR) {
        let server = empty_database().await;
        let schema = ServerSchema { migrator: history, ..SERVER_SCHEMA };
        let before = Database::open_on_server(&server, &schema).await.unwrap();
        write_first_rows(&before).await;
        before.close().await;
        let log = SqlEventLog::open_on_server(&server).await.unwrap();
        let store = SqlConfigStore::open_on_server(&server, &log).await.unwrap();
        has_everything(&store).await;
        store.close().await;
        log.close().await;
    }
}
