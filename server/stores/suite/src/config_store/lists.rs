//! Lists of resources: their orders, and pages that follow each other while the list changes.

use rateguard_core::ids::{DisplayName, WorkspaceId};
use rateguard_engine::listing::{Listed, Order, OrderBy, Page, PageQuery, page_of};
use rateguard_engine::ports::{ConfigStore, Resource, ResourceKind, StoreError, Stored};

use super::samples::{one_of_each, rule};
use super::{LIMIT, Outcome, by, insert_all, opened, ws};
use crate::Backend;

/// Every order that resources have.
const ORDERS: [OrderBy; 4] = [OrderBy::Id, OrderBy::CreateTime, OrderBy::UpdateTime, OrderBy::DisplayName];
/// Ids, names and instants of rules: of each there are equals, and none is in the order of another. The names are
/// such as a language's rules would order otherwise than their bytes do.
const RULES: [(&str, &str, u64); 9] = [
    ("rule_5", "b", 3),
    ("rule_3", "B", 1),
    ("rule_9", "ä", 3),
    ("rule_1", "b", 2),
    ("rule_7", "a b", 1),
    ("rule_2", "Ä", 3),
    ("rule_8", "ab", 2),
    ("rule_4", "b", 3),
    ("rule_6", "_", 1),
];

/// Every order both ways, with equals by their ids, is the one that a list in memory has; pages of every size put
/// together are the list.
pub async fn every_order_pages_through_everything<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    make_rules(&store, &owner).await?;
    let all = store.list(&owner, ResourceKind::Rule, &PageQuery::first(LIMIT)).await?;
    assert_eq!(all.len(), RULES.len());
    for order in orders() {
        let expected = page_of(all.clone(), &PageQuery { order, after: None, limit: LIMIT }).items;
        for limit in [1, 2, 4, RULES.len()] {
            let mut query = PageQuery { order, after: None, limit };
            let mut seen = Vec::new();
            loop {
                let rows = store.list(&owner, ResourceKind::Rule, &query).await?;
                let Some(last) = rows.last() else { break };
                query.after = Some(last.place(order.by));
                seen.extend(rows);
            }
            assert_eq!(seen, expected, "{order:?} by {limit}");
        }
    }
    Ok(())
}

/// What a page goes on after need not be there any longer, and what comes or goes elsewhere moves nothing: whatever
/// stays as it is comes exactly once, in its order.
pub async fn pages_are_stable_while_the_list_changes<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let workspaces: Vec<String> = orders().enumerate().map(|(number, _)| format!("ws_{number}")).collect();
    let store = opened(backend, &workspaces.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for (order, owner) in orders().zip(&workspaces) {
        let owner = ws(owner);
        make_rules(&store, &owner).await?;
        let whole = PageQuery { order, after: None, limit: LIMIT };
        let before = ids(&store.list(&owner, ResourceKind::Rule, &whole).await?);
        let (gone_seen, gone_unseen) = (before[2].clone(), before[5].clone());
        let first = page(&store, &owner, &PageQuery { limit: 3, ..whole.clone() }).await?;
        let mut seen = ids(&first.items);
        for id in [&gone_seen, &gone_unseen] {
            store.remove(&owner, ResourceKind::Rule, id, None, &by(4)).await?;
        }
        for (id, name) in [("rule_0", "0"), ("rule_55", "b"), ("rule_99", "ö")] {
            store.insert(&owner, named(id, name), LIMIT, &by(2)).await?;
        }
        let rest = page(&store, &owner, &PageQuery { after: first.next_after, ..whole.clone() }).await?;
        seen.extend(ids(&rest.items));
        let unchanged = |id: &&String| before.contains(id) && **id != gone_seen && **id != gone_unseen;
        let expected: Vec<&String> = before.iter().filter(unchanged).collect();
        assert_eq!(seen.iter().filter(unchanged).collect::<Vec<_>>(), expected, "{order:?}");
        assert!(!seen.contains(&gone_unseen), "{order:?}");
        let now = ids(&store.list(&owner, ResourceKind::Rule, &whole).await?);
        assert!(now.ends_with(&ids(&rest.items)), "{order:?}: {now:?}");
    }
    Ok(())
}

/// Each kind has every order, also the one that has no names.
pub async fn every_kind_has_every_order<B: Backend<Store: ConfigStore>>(backend: &B) -> Outcome {
    let store = opened(backend, &["ws_1"]).await?;
    let owner = ws("ws_1");
    insert_all(&store, "ws_1", one_of_each(1)).await?;
    insert_all(&store, "ws_1", one_of_each(2)).await?;
    for (kind, order) in
        ResourceKind::ALL.into_iter().flat_map(|kind| orders().map(move |order| (kind, order)))
    {
        let query = PageQuery { order, after: None, limit: 1 };
        let first = store.list(&owner, kind, &query).await?;
        let after = first.first().map(|stored| stored.place(order.by));
        let second = store.list(&owner, kind, &PageQuery { after, ..query }).await?;
        let mut both = ids(&first);
        both.extend(ids(&second));
        if order.descending {
            both.reverse();
        }
        let expected = ids(&store.list(&owner, kind, &PageQuery::first(2)).await?);
        assert_eq!(both, expected, "{kind:?} {order:?}");
    }
    Ok(())
}

fn orders() -> impl Iterator<Item = Order> {
    ORDERS.into_iter().flat_map(|by| [Order::ascending(by), Order::descending(by)])
}

/// Makes the rules, and changes some at an instant that is others', too.
async fn make_rules(store: &impl ConfigStore, owner: &WorkspaceId) -> Outcome {
    for (id, name, at) in RULES {
        store.insert(owner, named(id, name), LIMIT, &by(at)).await?;
    }
    for (id, name, _) in RULES.iter().step_by(2) {
        store.replace(owner, named(id, name), 1, &by(3)).await?;
    }
    Ok(())
}

async fn page(
    store: &impl ConfigStore,
    owner: &WorkspaceId,
    query: &PageQuery,
) -> Result<Page<Stored<Resource>>, StoreError> {
    let items = store.list(owner, ResourceKind::Rule, query).await?;
    let next_after = items.last().map(|last| last.place(query.order.by));
    Ok(Page { items, next_after })
}

fn named(id: &str, name: &str) -> Resource {
    let name = DisplayName::parse("name", name).expect("a sample is valid");
    Resource::Rule(rateguard_core::rule::Rule { name, ..rule(id) })
}

fn ids(resources: &[Stored<Resource>]) -> Vec<String> {
    resources.iter().map(|stored| stored.value.id().to_owned()).collect()
}
