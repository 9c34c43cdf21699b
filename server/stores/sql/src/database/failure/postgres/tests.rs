//! Tests of the table from SQLSTATE to what it means.

use super::*;

fn said(code: &str) -> Said<'_> {
    Said { is_fatal: false, code }
}

#[test]
fn a_commit_that_broke_a_rule_or_met_another_is_surely_not_done() {
    for code in ["23503", "23505", "25P02", "40001", "40P01", "53100", "57014"] {
        assert!(said(code).refuses_commit(), "{code}");
    }
}

#[test]
fn a_commit_whose_connection_ended_may_have_been_done() {
    for code in ["08006", "08007", "40003"] {
        assert!(!said(code).refuses_commit(), "{code}");
    }
    for code in ["57P01", "57P02", "XX000"] {
        assert!(!Said { is_fatal: true, code }.refuses_commit(), "{code}");
    }
}

#[test]
fn damage_is_told_from_all_else() {
    assert!(said("XX001").is_damage());
    assert!(said("XX002").is_damage());
    assert!(!said("42P01").is_damage());
}

#[test]
fn a_connection_is_given_up_when_its_server_goes_and_kept_when_a_statement_fails() {
    for code in ["57P01", "57P02", "57P03", "08003"] {
        assert!(said(code).ends_connection(), "{code}");
    }
    assert!(Said { is_fatal: true, code: "57P05" }.ends_connection());
    assert!(!said("55P03").ends_connection());
    assert!(is_broken(&Error::Io(std::io::ErrorKind::ConnectionReset.into())));
    assert!(!is_broken(&Error::PoolTimedOut));
}
