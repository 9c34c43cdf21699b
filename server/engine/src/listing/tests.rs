use std::collections::BTreeMap;

use proptest::prelude::*;
use rateguard_core::time::Millis;

use super::*;

/// Something with an id that is its own, and values that others may have too.
#[derive(Clone, Debug, PartialEq)]
struct Item {
    id: u8,
    at: i64,
    name: String,
}

impl Listed for Item {
    fn place(&self, by: OrderBy) -> Place {
        let value = match by {
            OrderBy::Id => OrderValue::Nothing,
            OrderBy::DisplayName => OrderValue::Text(self.name.clone()),
            OrderBy::CreateTime | OrderBy::UpdateTime | OrderBy::JoinTime => {
                OrderValue::At(Millis::new(self.at))
            }
        };
        Place { value, id: format!("item_{:03}", self.id) }
    }
}

/// What happens between two pages.
#[derive(Clone, Debug)]
enum Change {
    Add(Item),
    Remove(u8),
}

fn item() -> impl Strategy<Value = Item> {
    (any::<u8>(), 0..4_i64, "[abB]{1,2}").prop_map(|(id, at, name)| Item { id, at, name })
}

fn items() -> impl Strategy<Value = BTreeMap<u8, Item>> {
    prop::collection::vec(item(), 0..40)
        .prop_map(|items| items.into_iter().map(|item| (item.id, item)).collect())
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![item().prop_map(Change::Add), any::<u8>().prop_map(Change::Remove)];
    prop::collection::vec(change, 0..6)
}

fn order() -> impl Strategy<Value = Order> {
    let by = prop::sample::select(vec![OrderBy::Id, OrderBy::CreateTime, OrderBy::DisplayName]);
    (by, any::<bool>()).prop_map(|(by, descending)| Order { by, descending })
}

proptest! {
    /// Whatever comes and goes between pages, what was there all the time, unchanged, is on exactly one of them, in its
    /// order; nothing comes twice but what was taken out and added again.
    #[test]
    fn what_stays_as_it_is_comes_exactly_once(
        mut list in items(),
        between in prop::collection::vec(changes(), 0..20),
        order in order(),
        limit in 1..7_usize,
    ) {
        let mut unchanged = list.clone();
        let (mut seen, mut between) = (Vec::new(), between.into_iter());
        let mut query = PageQuery { order, after: None, limit };
        loop {
            let page = page_of(list.values().cloned(), &query);
            prop_assert!(page.items.len() <= limit);
            seen.extend(page.items);
            let Some(next) = page.next_after else { break };
            query.after = Some(next);
            for change in between.next().unwrap_or_default() {
                let id = match change {
                    Change::Add(item) => { let id = item.id; list.insert(id, item); id }
                    Change::Remove(id) => { list.remove(&id); id }
                };
                unchanged.remove(&id);
            }
        }
        let kept: Vec<&Item> = seen.iter().filter(|item| unchanged.get(&item.id) == Some(*item)).collect();
        let mut expected: Vec<&Item> = unchanged.values().collect();
        expected.sort_by(|one, other| order.compare(&one.place(order.by), &other.place(order.by)));
        prop_assert_eq!(kept, expected);
        let places: Vec<Place> = seen.iter().map(|item| item.place(order.by)).collect();
        prop_assert!(places.windows(2).all(|pair| order.compare(&pair[0], &pair[1]) == Ordering::Less));
    }

    /// The parts of a list that only grows, put together, are the list as it was.
    #[test]
    fn a_growing_list_is_read_to_its_end(numbers in 1..30_u64, limit in 1..7_usize, oldest_first in any::<bool>()) {
        let mut seen = Vec::new();
        let mut query = SequenceQuery { oldest_first, after: None, limit };
        loop {
            let more = query.one_more();
            let in_part = |number: &u64| query.after.is_none_or(|after| (*number > after) == oldest_first && *number != after);
            let mut rest: Vec<u64> = (1..=numbers).filter(in_part).collect();
            if !oldest_first {
                rest.reverse();
            }
            rest.truncate(more.limit);
            let page = query.page(rest, |number| *number);
            seen.extend(page.items);
            let Some(after) = page.next_after else { break };
            query.after = Some(after);
        }
        if !oldest_first {
            seen.reverse();
        }
        prop_assert_eq!(seen, (1..=numbers).collect::<Vec<_>>());
    }
}

#[test]
fn a_part_of_a_name_is_found_whatever_its_case() {
    assert!(TextPart::new("ÄPFEL").is_in("Meine Äpfel"));
    assert!(TextPart::new("äpfel").is_in("MEINE ÄPFEL"));
    assert!(!TextPart::new("äpfel").is_in("Meine Birnen"));
}

#[test]
fn equals_follow_by_their_ids_in_the_direction_of_the_list() {
    let item = |id, at| Item { id, at, name: "n".to_owned() };
    let all = [item(2, 1), item(1, 1), item(3, 0)];
    let ids = |order| {
        let page = page_of(all.clone(), &PageQuery { order, after: None, limit: 3 });
        page.items.iter().map(|item| item.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Order::ascending(OrderBy::CreateTime)), [3, 1, 2]);
    assert_eq!(ids(Order::descending(OrderBy::CreateTime)), [2, 1, 3]);
}
