//! The layers, and that the default and the types have the same keys.

use rateguard_serving::tls::ClientCertificates;

use super::{Config, ConfigError, reference};
use crate::keyfile;

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), &[], &[])
}

/// The types have no defaults of their own and refuse unknown keys, so that this one load proves
/// both directions: every key of the file is read, and every key read is in the file.
#[test]
fn the_default_alone_is_a_whole_configuration() {
    let config = Config::load(None, &[], &[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
}

#[test]
fn flags_go_over_the_environment_and_the_environment_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(
        &file,
        "[server]\nlisten = \"127.0.0.1:1\"\ndrain_seconds_max = 5\n[data]\nfolder = \"a\"\n",
    )
    .unwrap();
    let environment =
        environment(&[("RATEGUARD_SERVER__LISTEN", "127.0.0.1:2"), ("RATEGUARD_DATA__FOLDER", "b")]);
    let config = Config::load(Some(&file), &environment, &[("data.folder", "c".to_owned())]).unwrap();
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.data.folder.to_str(), Some("c"));
    assert_eq!(config.drain_max().as_secs(), 5);
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    let error = load_text("[server]\nlisten_addr = \"127.0.0.1:1\"\n").unwrap_err().to_string();
    assert!(error.contains("server.listen_addr") && error.contains("\"server.listen\""), "{error}");
    let error =
        Config::load(None, &environment(&[("RATEGUARD_LOG__FILTR", "info")]), &[]).unwrap_err().to_string();
    assert!(error.contains("RATEGUARD_LOG__FILTR") && error.contains("log.filter"), "{error}");
}

#[test]
fn a_value_of_the_wrong_type_or_out_of_bounds_names_its_key() {
    let error = load_text("[server]\nlisten = \"nowhere\"\n").unwrap_err().to_string();
    assert!(error.contains("listen"), "{error}");
    let error = load_text("[server]\ndrain_seconds_max = 0\n").unwrap_err().to_string();
    assert!(error.contains("server.drain_seconds_max must be 1 to 3600"), "{error}");
}

/// The keys of TLS with certificates of clients.
const MUTUAL: &str = "[server.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\nclient_ca_file = \"a\"\n";

#[test]
fn the_listener_for_gateways_stays_on_loopback_unless_they_show_certificates() {
    let load = |address: &str, tls: &str| {
        load_text(&format!("[server]\ngateway_listen = \"{address}\"\ngateway_token_file = \"token\"\n{tls}"))
    };
    assert_eq!(load("", "").unwrap().server.gateway_listen, None);
    for address in ["127.0.0.1:8090", "127.9.9.9:1", "[::1]:8090", "[::ffff:127.0.0.1]:8090"] {
        assert_eq!(load(address, "").unwrap().server.gateway_listen, Some(address.parse().unwrap()));
    }
    let one_sided = "[server.tls]\ncertificate_file = \"c\"\nkey_file = \"k\"\n";
    for address in ["0.0.0.0:8090", "10.0.0.1:8090", "[::]:8090", "[2001:db8::1]:8090"] {
        for tls in ["", one_sided] {
            let error = load(address, tls).unwrap_err().to_string();
            assert!(error.contains("server.gateway_listen must be a loopback address"), "{error}");
            assert!(error.contains("server.tls.client_ca_file"), "{error}");
        }
        for wanted in ["required", "optional"] {
            let tls = format!("{MUTUAL}client_certificates = \"{wanted}\"\n");
            let config = load(address, &tls).unwrap();
            assert_eq!(config.server.tls.of_gateways(), ClientCertificates::Required);
        }
    }
    let error = load("localhost", "").unwrap_err().to_string();
    assert!(error.contains("gateway_listen") && error.contains("localhost"), "{error}");
}

#[test]
fn nothing_leaves_the_machine_in_clear_unless_that_is_allowed() {
    let listening = |address: &str| format!("[server]\nlisten = \"{address}\"\n");
    for address in ["0.0.0.0:8080", "10.0.0.1:8080", "[::]:8080"] {
        let error = load_text(&listening(address)).unwrap_err().to_string();
        assert!(error.contains("server.listen must be a loopback address"), "{error}");
        assert!(error.contains("server.tls.certificate_file"), "{error}");
        assert!(error.contains("server.allow_clear_text = true"), "{error}");
        let allowed = load_text(&(listening(address) + "allow_clear_text = true\n")).unwrap();
        assert!(allowed.server.is_open_in_clear());
        assert!(!load_text(&(listening(address) + MUTUAL)).unwrap().server.is_open_in_clear());
    }
    assert!(!load_text(&listening("[::1]:8080")).unwrap().server.is_open_in_clear());
}

#[test]
fn tls_is_configured_whole() {
    let load = |text: &str| load_text(&format!("[server.tls]\n{text}\n"));
    let refused = |text: &str| load(text).unwrap_err().to_string();
    assert!(refused("certificate_file = \"c\"").contains("server.tls.key_file must name"));
    assert!(refused("key_file = \"k\"").contains("server.tls.certificate_file must name"));
    assert!(refused("client_ca_file = \"a\"").contains("server.tls.client_ca_file must be empty"));
    assert!(refused("client_certificates = \"never\"").contains("client_certificates"));
    let tls = load("").unwrap().server.tls;
    assert_eq!((tls.files(), tls.of_clients()), (None, ClientCertificates::NotAsked));
    let tls = load_text(MUTUAL).unwrap().server.tls;
    assert_eq!(tls.of_clients(), ClientCertificates::Required);
    assert_eq!(tls.files().unwrap().client_authority.unwrap().to_str(), Some("a"));
    let tls = load_text(&(MUTUAL.to_owned() + "client_certificates = \"optional\"")).unwrap().server.tls;
    assert_eq!(tls.of_clients(), ClientCertificates::Optional);
}

#[test]
fn a_key_of_a_section_within_a_section_can_be_set_and_misspelt_like_any_other() {
    let load = |name: &str| Config::load(None, &environment(&[(name, "optional")]), &[]);
    load("RATEGUARD_SERVER__TLS__CLIENT_CERTIFICATES").unwrap();
    let error = load("RATEGUARD_SERVER__TLS__CLIENT_CERTIFICATE").unwrap_err().to_string();
    assert!(error.contains("\"server.tls.client_certificates\""), "{error}");
    assert!(load("RATEGUARD_SERVER__TLS").unwrap_err().to_string().contains("there is no key"));
    let error = load_text("[server.tls]\ncertificate = \"c\"\n").unwrap_err().to_string();
    assert!(
        error.contains("server.tls.certificate\"") && error.contains("server.tls.certificate_file"),
        "{error}"
    );
    let documented = reference::markdown();
    assert!(documented.contains("`RATEGUARD_SERVER__TLS__CERTIFICATE_FILE`"), "{documented}");
}

#[test]
fn a_listener_for_gateways_without_a_token_file_is_refused_by_the_key_that_is_missing() {
    let error = load_text("[server]\ngateway_listen = \"127.0.0.1:8090\"\n").unwrap_err().to_string();
    let expected = "server.gateway_token_file must name a file with the token that gateways present";
    assert!(error.contains(expected) && error.contains("server.gateway_listen"), "{error}");
}

#[test]
fn the_header_with_the_clients_address_has_to_be_one() {
    let load = |name: &str| load_text(&format!("[gateway]\nclient_address_header = \"{name}\"\n"));
    assert_eq!(load("").unwrap().gateway.client_address_header, None);
    let header = load("X-Forwarded-For").unwrap().gateway.client_address_header;
    assert_eq!(header.unwrap().as_str(), "x-forwarded-for");
    let error = load("two words").unwrap_err().to_string();
    assert!(error.contains("client_address_header"), "{error}");
}

#[test]
fn who_calls_is_told_by_proxies_that_are_named_and_by_no_others() {
    let load = |text: &str| load_text(&format!("[server]\n{text}\n"));
    let refused = |text: &str| load(text).unwrap_err().to_string();
    assert_eq!(load("").unwrap().server.trusted_proxies(), None);
    let header = "client_address_header = \"X-Forwarded-For\"";
    assert!(refused(header).contains("server.trusted_proxies must name the ranges"));
    let ranges = "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]";
    assert!(refused(ranges).contains("server.client_address_header must name the header"));
    let proxies = load(&format!("{header}\n{ranges}")).unwrap().server.trusted_proxies().unwrap();
    assert_eq!(proxies.header.as_str(), "x-forwarded-for");
    assert_eq!(proxies.ranges, ["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()]);
    let wrong = refused(&format!("{header}\ntrusted_proxies = [\"balancer\"]"));
    assert!(wrong.contains("trusted_proxies") && wrong.contains("balancer"), "{wrong}");
    let twice = refused(&format!("{header}\n{ranges}\n[gateway]\nclient_address_header = \"x-real-ip\""));
    assert!(twice.contains("gateway.client_address_header must be empty"), "{twice}");
}

#[test]
fn variables_of_programs_around_the_server_are_none_of_its_keys() {
    let load = |names: &[&str]| {
        let variables: Vec<_> = names.iter().map(|name| (*name, "x")).collect();
        Config::load(None, &environment(&variables), &[]).unwrap().mistaken
    };
    let foreign = [
        "RATEGUARD_DATABASE_PASSWORD",
        "RATEGUARD_GATEWAY_TOKEN_FILE",
        "RATEGUARD_GATEWAY_LISTEN",
        "RATEGUARD_SERVER",
        "RATEGUARD_KEY",
        "RATEGUARD_CONFIG",
        "RATEGUARD_",
        "PATH",
    ];
    assert_eq!(load(&foreign), []);
    for (name, meant) in [
        ("RATEGUARD_SERVER_LISTEN", "RATEGUARD_SERVER__LISTEN"),
        ("RATEGUARD_SERVER_CORS_ORIGIN", "RATEGUARD_SERVER__CORS_ORIGINS"),
        ("RATEGUARD_STORES_POSTGRES_URL", "RATEGUARD_STORES__POSTGRES__URL"),
    ] {
        let [mistaken] = load(&[name]).try_into().unwrap();
        assert_eq!((mistaken.name.as_str(), mistaken.meant.as_str()), (name, meant));
    }
}

#[test]
fn every_key_of_the_default_is_commented() {
    let lines: Vec<&str> = super::DEFAULT.lines().collect();
    let keys = lines.iter().enumerate().filter(|(_, line)| line.contains(" = ") && !line.starts_with('#'));
    for (place, line) in keys {
        assert!(lines[place - 1].starts_with('#'), "{line} has no comment above it");
    }
}

#[test]
fn a_list_in_a_variable_is_written_as_in_the_file_and_anything_else_names_the_key() {
    let load =
        |text: &str| Config::load(None, &environment(&[("RATEGUARD_SERVER__CORS_ORIGINS", text)]), &[]);
    let documented = reference::markdown();
    let example = documented.lines().find_map(|line| line.strip_prefix("RATEGUARD_SERVER__CORS_ORIGINS='"));
    let example = example.unwrap().strip_suffix('\'').unwrap();
    let origins = load(example).unwrap().server.cors_origins;
    assert_eq!(origins, ["https://dashboard.example.com", "http://localhost:5173"]);
    assert!(load("[]").unwrap().server.cors_origins.is_empty());
    for wrong in ["https://dashboard.example.com", "a,b", "", "[\"a\"", "[1]"] {
        let error = load(wrong).unwrap_err().to_string();
        assert!(error.contains("cors_origins"), "{wrong}: {error}");
    }
}

#[test]
fn what_people_are_let_in_by_has_bounds() {
    let refused = |text: &str| load_text(&format!("[people]\n{text}\n")).unwrap_err().to_string();
    let error = refused("access_token_seconds = 3601");
    assert!(error.contains("people.access_token_seconds must be 60 to 3600"), "{error}");
    assert!(refused("refresh_token_seconds = 60").contains("people.refresh_token_seconds"));
    assert!(refused("registration = \"everybody\"").contains("registration"));
}

#[test]
fn mail_is_configured_whole_and_leaves_the_machine_encrypted() {
    let load = |text: &str| load_text(&format!("[mail]\n{text}\n"));
    let refused = |text: &str| load(text).unwrap_err().to_string();
    assert!(refused("transport = \"smtp\"").contains("mail.from"));
    let smtp = "transport = \"smtp\"\nfrom = \"a@example.com\"";
    assert!(refused(smtp).contains("mail.smtp_host"));
    let plain = |host: &str| format!("{smtp}\nsmtp_host = \"{host}\"\nsmtp_tls = \"none\"");
    assert!(refused(&plain("mail.example.com")).contains("mail.smtp_tls"));
    load(&plain("127.0.0.1")).unwrap();
}

#[test]
fn a_key_of_a_section_below_a_section_is_set_like_any_other() {
    let variables = environment(&[
        ("RATEGUARD_STORES__KIND", "postgres"),
        ("RATEGUARD_STORES__POSTGRES__URL", "postgres://role:hidden@db/name"),
        ("RATEGUARD_STORES__POSTGRES__CONNECTIONS_MAX", "12"),
    ]);
    let config = Config::load(None, &variables, &[]).unwrap();
    assert_eq!(config.stores.postgres.connections_max, 12);
    assert_eq!(config.stores.postgres.url().unwrap().expose(), "postgres://role:hidden@db/name");
    assert!(!format!("{config:?}").contains("hidden"));
    assert!(reference::markdown().contains("| `RATEGUARD_STORES__POSTGRES__URL` |"));
    for (name, nearest) in [
        ("RATEGUARD_STORES__POSTGRES__URLS", "stores.postgres.url"),
        ("RATEGUARD_STORES__POSTGRES", "stores.postgres"),
    ] {
        let error = Config::load(None, &environment(&[(name, "x")]), &[]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(nearest), "{error}");
    }
}

#[test]
fn postgres_is_configured_by_one_url() {
    let load = |text: &str| load_text(&format!("[stores]\nkind = \"postgres\"\n[stores.postgres]\n{text}\n"));
    let refused = |text: &str| load(text).unwrap_err().to_string();
    assert!(refused("").contains("stores.postgres.url must name the database"));
    assert!(refused("url = \"mysql://db\"").contains("must begin with postgres://"));
    let both = "url = \"postgres://db/name\"\nurl_file = \"file\"";
    assert!(refused(both).contains("stores.postgres.url_file must be empty"));
    let few = refused("url = \"postgres://db/name\"\nconnections_max = 7");
    assert!(few.contains("stores.postgres.connections_max must be 8 to 1000"), "{few}");
    load("url = \"postgresql://db/name\"").unwrap();
}

#[test]
fn redis_is_configured_by_its_servers() {
    let load = |text: &str| load_text(&format!("[stores.redis]\n{text}\n"));
    let refused = |text: &str| load(text).unwrap_err().to_string();
    assert!(load("").unwrap().stores.redis.store().unwrap().is_none());
    assert!(refused("topology = \"single\"").contains("stores.redis.urls must name the servers"));
    let of = |urls: &str| format!("topology = \"single\"\nurls = {urls}");
    assert!(refused(&of("[\"http://a\"]")).contains("must each begin with redis://"));
    assert!(refused(&of("[\"redis://a\", \"redis://b\"]")).contains("must be one"));
    let one = of("[\"redis://user:hidden@a\"]");
    assert!(
        refused(&format!("{one}\nurls_file = \"file\"")).contains("stores.redis.urls_file must be empty")
    );
    assert!(refused(&format!("{one}\nkey_prefix = \"a{{b\"")).contains("stores.redis.key_prefix"));
    assert!(refused(&format!("{one}\ndeadline_ms = 0")).contains("stores.redis.deadline_ms must be 1 to"));
    let sentinel = "topology = \"sentinel\"\nurls = [\"redis://a\"]";
    assert!(refused(sentinel).contains("stores.redis.sentinel_service"));
    let config = load(&format!("{one}\ndeadline_ms = 15")).unwrap();
    assert!(!format!("{config:?}").contains("hidden"));
    let store = config.stores.redis.store().unwrap().unwrap();
    assert_eq!(store.deadline, std::time::Duration::from_millis(15));
}

#[test]
fn a_file_with_the_url_of_a_single_redis_holds_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = |name: &str, topology: &str, urls: &str| {
        let file = folder.path().join(name);
        keyfile::create(&file, urls).unwrap();
        let section = format!("[stores.redis]\ntopology = {topology:?}\nurls_file = {file:?}\n");
        load_text(&section).unwrap().stores.redis.store()
    };
    assert!(store("one", "single", "redis://a\n").unwrap().is_some());
    let refused = format!("{:#}", store("two", "single", "redis://a\nredis://b\n").map(drop).unwrap_err());
    assert!(refused.contains("must hold one URL"), "{refused}");
    assert!(store("nodes", "cluster", "redis://a\nredis://b\n").unwrap().is_some());
}

#[test]
fn the_url_in_a_file_is_read_where_only_its_owner_may() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("database-url");
    let url = || {
        let section = format!("[stores]\nkind = \"postgres\"\n[stores.postgres]\nurl_file = {file:?}\n");
        load_text(&section).unwrap().stores.postgres.url()
    };
    let said = |error: anyhow::Error| format!("{error:#}");
    assert!(said(url().unwrap_err()).contains("database-url"));
    crate::keyfile::create(&file, "postgres://role:hidden@db/name\n").unwrap();
    assert_eq!(url().unwrap().expose(), "postgres://role:hidden@db/name");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(said(url().unwrap_err()).contains("stores.postgres.url_file"));
    std::fs::remove_file(&file).unwrap();
    crate::keyfile::create(&file, "hidden\n").unwrap();
    let error = said(url().unwrap_err());
    assert!(error.contains("postgres://") && !error.contains("hidden"), "{error}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_once() {
    let said = |error: ConfigError| format!("{:#}", anyhow::Error::new(error));
    let absent = said(Config::load(Some("absent.toml".as_ref()), &[], &[]).unwrap_err());
    assert_eq!(absent.matches("No such file").count(), 1, "{absent}");
    assert!(absent.contains("absent.toml"), "{absent}");
    let broken = said(load_text("[server\n").unwrap_err());
    assert_eq!(broken.matches("TOML parse error").count(), 1, "{broken}");
}
