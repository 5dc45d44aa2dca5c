//! The README's profiles, and those of the configuration guide, work as they stand there.
#![cfg(all(
    feature = "config",
    feature = "keycloak",
    feature = "nemo",
    feature = "oidc",
    feature = "static",
    feature = "store-file"
))]

use keyfob::{Config, Context, authorize::Policy};

#[test]
fn every_profile_of_the_readme_makes_a_session() {
    let guide = include_str!("../docs/configuration.md");
    let config =
        Config::parse(guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap(), "x").unwrap();
    assert!(config.profile(None, &keyfob::registry(), &Context::new()).is_ok());
    let readme = include_str!("../README.md");
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut profiles = 0;
    for block in blocks.filter(|block| block.starts_with("[profile.")) {
        let config = Config::parse(block, "README.md").unwrap();
        for name in config.profiles() {
            let profile = config.profile(Some(name), &keyfob::registry(), &Context::new()).unwrap();
            let api = match &*profile.provider {
                "cave" => "https://global.daf-apis.com/auth/api/v1/user",
                "sfapi" => "https://api.nersc.gov/api/v1.2/meta/config",
                "nemo" => "https://nemo.example.com/apis/entities/v2/workspaces",
                _ if name == "usnan" => "https://api.nmrhub.org/usnan/facilities",
                _ => "https://api.example.com/me",
            };
            let api = api.parse::<url::Url>().unwrap();
            assert_eq!(profile.origins.covers(&api), Some(Policy::Required), "{name}");
            profiles += 1;
        }
    }
    assert_eq!(profiles, readme.matches("\n[profile.").count());
}
