//! Tests of bodies alone.

use proptest::prelude::*;
use rateguard_store_suite::config_store::samples::varied;

use super::*;

#[test]
fn every_resource_comes_back_from_its_body() {
    for resource in varied() {
        let body = encode(&resource).unwrap();
        let decoded = decode(resource.kind(), columns(&resource), BODY_VERSION, &body).unwrap();
        assert_eq!(decoded, resource);
    }
}

#[test]
fn a_key_that_was_stored_before_keys_could_rotate_is_read() {
    let body = r#"{"display_name":"K","prefix":"rg_live_abcd","label":"live","scopes":["read"],"apis":[],
        "models":[],"ip_ranges":[],"bound_subject":null,"allow_subject_header":false,"expires_at_ms":null,
        "active":true}"#;
    let columns = Columns { id: "key_1".to_owned(), unique: Unique::Secret(vec![1; 32]) };
    let decoded = decode(ResourceKind::Key, columns, BODY_VERSION, body).unwrap();
    assert!(matches!(decoded, Resource::Key(key) if key.previous.is_none()));
}

#[test]
fn a_field_that_is_not_known_is_refused_rather_than_lost() {
    for resource in varied() {
        let body = encode(&resource).unwrap().replacen('{', r#"{"from_the_future":1,"#, 1);
        let refused = decode(resource.kind(), columns(&resource), BODY_VERSION, &body);
        assert!(matches!(refused, Err(BodyError::Json(_))), "{refused:?}");
    }
}

#[test]
fn a_body_of_another_kind_is_refused() {
    for (one, other) in
        varied().into_iter().flat_map(|one| varied().into_iter().map(move |o| (one.clone(), o)))
    {
        if one.kind() != other.kind() {
            let body = encode(&other).unwrap();
            assert!(decode(one.kind(), columns(&one), BODY_VERSION, &body).is_err());
        }
    }
}

proptest! {
    #[test]
    fn a_damaged_body_is_refused_or_reads_as_something_valid(place in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(), with in "[ -~]{0,4}") {
        let all = varied();
        let resource = &all[place.index(all.len())];
        let body = encode(resource).unwrap();
        let cut = (0..=cut.index(body.len())).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
        let rest = body[cut..].chars().next().map_or(cut, |c| cut + c.len_utf8());
        let damaged = format!("{}{with}{}", &body[..cut], &body[rest..]);
        if let Ok(decoded) = decode(resource.kind(), columns(resource), BODY_VERSION, &damaged) {
            prop_assert_eq!(decoded.id(), resource.id());
        }
    }
}
