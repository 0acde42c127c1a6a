//! What is refused before anything is made, and in which words.

use std::collections::BTreeMap;
use std::time::Duration;

use scale_coder::config::Config;
use scale_coder::names::Names;
use scale_coder::preflight::{Ask, Refusal, active, names_free, site, template};
use scale_coder::secret::Token;

use crate::fake::{Fake, What};
use crate::{now, owner, owner_with, pace};

const HOUR: Duration = Duration::from_secs(3600);

fn ask() -> Ask<'static> {
    Ask { now: now(), planned: HOUR, deployment: None }
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Nothing was changed by looking.
fn assert_only_looked(fake: &Fake) {
    assert!(fake.state().seen.iter().all(|seen| seen.method == "GET"), "preflight changes nothing");
    fake.assert_manners();
}

#[tokio::test]
async fn a_fit_site_says_who_where_and_until_when() {
    let fake = Fake::start("v2.26.0+abc").await;
    fake.world().token_ends = Some("2026-03-02T12:00:00Z".into());
    fake.world().add_user("busy", "busy@example.com", None);
    fake.world().users.last_mut().unwrap().last_seen_at = "2026-03-01T11:55:00Z".into();
    fake.world().add_user("idle", "idle@example.com", None);
    fake.world().users.last_mut().unwrap().last_seen_at = "2026-03-01T10:00:00Z".into();
    let mut client = owner(&fake);
    let site = site(&mut client, &ask()).await.unwrap();
    assert_eq!(
        (site.version_text.as_str(), site.deployment.as_deref()),
        ("v2.26.0+abc", Some("deployment-1"))
    );
    assert_eq!(site.token_ends.unwrap().to_string(), "2026-03-02T12:00:00Z");
    assert!(site.warnings.is_empty(), "{:?}", site.warnings);
    let active = active(&client, &site, now()).await.unwrap();
    assert_eq!((active.users, active.is_whole), (1, true));
    // From here on the owner's header is sent.
    assert!(fake.state().seen.last().unwrap().bypass);
    assert_only_looked(&fake);
}

#[tokio::test]
async fn each_unfit_site_is_refused_in_its_own_words() {
    let fake = Fake::start("v2.26.0").await;
    let refused = async |client: &mut scale_coder::client::Client, ask: &Ask<'_>| {
        site(client, ask).await.unwrap_err().to_string()
    };
    let page = What::Answer { status: 200, headers: vec![("content-type", "text/html")], body: "<html>" };
    fake.fault("GET", "/api/v2/buildinfo", 1, page);
    let words = refused(&mut owner(&fake), &ask()).await;
    assert!(words.contains("is not Coder's API") && words.contains("CODER_URL"), "{words}");

    let pinned = Ask { deployment: Some("deployment-9"), ..ask() };
    let words = refused(&mut owner(&fake), &pinned).await;
    assert!(words.contains("deployment-1") && words.contains("deployment-9 is pinned"), "{words}");

    let mut stranger = owner(&fake).for_user(Token::new("expired123-X").unwrap()).unwrap();
    let words = refused(&mut stranger, &ask()).await;
    assert!(words.contains("expired") && words.contains("coder tokens create"), "{words}");

    let user = fake.world().add_user("alice", "alice@example.com", Some("template-admin"));
    fake.world().tokens.insert("alice12345-X".into(), user);
    let mut alice = owner(&fake).for_user(Token::new("alice12345-X").unwrap()).unwrap();
    let words = refused(&mut alice, &ask()).await;
    assert!(words.contains("`alice` has the role `template-admin`") && words.contains("`owner`"), "{words}");

    // Good for the hour itself, but not for the clean-up after it.
    fake.world().token_ends = Some("2026-03-01T13:02:00Z".into());
    let words = refused(&mut owner(&fake), &ask()).await;
    assert!(words.contains("ends at 2026-03-01T13:02:00Z") && words.contains("13:05:00Z"), "{words}");
    assert_only_looked(&fake);
}

#[tokio::test]
async fn a_double_slash_in_the_url_is_the_dashboard_and_not_the_api() {
    let fake = Fake::start("v2.26.0").await;
    // One slash at the end does no harm, two would make `//api`; both are taken off.
    for url in [format!("{}/", fake.url), format!("{}//", fake.url)] {
        let client = owner_with(Config { pace: pace(), ..Config::new(url) });
        client.build_info().await.unwrap();
    }
    // A path in front of it is another matter.
    let mut client = owner_with(Config { pace: pace(), ..Config::new(format!("{}/workspaces", fake.url)) });
    let refusal = site(&mut client, &ask()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::WrongUrl { .. }), "{refusal}");
}

#[tokio::test]
async fn a_server_that_does_not_tell_its_version_or_the_tokens_end_is_warned_of() {
    let fake = Fake::start("(devel)").await;
    let site = site(&mut owner(&fake), &ask()).await.unwrap();
    assert_eq!((site.version, site.token_ends, site.warnings.len()), (None, None, 2));
}

#[tokio::test]
async fn templates_are_found_by_name_or_id_in_every_organization() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    let disk = given(&[("home_disk_size", "10")]);
    let chosen = template(&client, "docker", None, &disk).await.unwrap();
    assert_eq!((chosen.template.id.as_str(), chosen.parameters.len()), ("template-3", 1));
    let chosen = template(&client, "template-2", None, &disk).await.unwrap();
    assert_eq!(chosen.template.name, "kubernetes");
    let chosen = template(&client, "kubernetes", None, &disk).await.unwrap();
    assert!(chosen.template.id == "template-1" && chosen.warnings[0].contains("--organization"));
    let chosen = template(&client, "kubernetes", Some("night"), &disk).await.unwrap();
    assert!(chosen.template.id == "template-2" && chosen.warnings.is_empty());

    let words = template(&client, "kubernets", None, &disk).await.unwrap_err().to_string();
    assert!(words.contains("no template `kubernets`") && words.contains("`docker`, `kubernetes`"), "{words}");
    let words = template(&client, "docker", Some("coder"), &disk).await.unwrap_err().to_string();
    assert!(words.contains(" in `coder`"), "{words}");
    let words = template(&client, "docker", Some("day"), &disk).await.unwrap_err().to_string();
    assert!(words.contains("`coder`, `night`"), "{words}");
    let words = template(&client, "docker", None, &given(&[("disk", "1")])).await.unwrap_err().to_string();
    assert!(words.contains("no parameter `disk`") && words.contains("--parameter home_disk_size"), "{words}");
    assert_only_looked(&fake);
}

#[tokio::test]
async fn names_that_are_taken_are_refused_before_anything_is_made() {
    let fake = Fake::start("v2.26.0").await;
    let client = owner(&fake);
    let names = Names::new("r5-0", None, 10).unwrap();
    let admin = fake.world().users[0].id.clone();
    fake.world().add_workspace("my-scaletest-r5-0-1", &admin);
    fake.world().add_workspace("scaletest-r5-01-1", &admin);
    names_free(&client, &names).await.unwrap();
    fake.world().add_workspace("scaletest-r5-0-3", &admin);
    fake.world().add_user("scaletest-r5-0-4", "x@scaletest.local", None);
    let words = names_free(&client, &names).await.unwrap_err().to_string();
    assert!(words.contains("2 names") && words.contains("`scaletest-r5-0-4`"), "{words}");
    assert_only_looked(&fake);
}
