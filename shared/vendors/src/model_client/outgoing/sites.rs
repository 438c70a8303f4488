//! Sites that many people share, and words that look like sites.

/// Sites on which each path is another person's, by domain, or by name if the suffix differs from country to country.
const SHARED: &str = "\
    instagram instagr.am ig.me threads.net threads.com facebook fb.com fb.me fb.watch m.me whatsapp.com wa.me wa.link t.me \
    telegram.me telegram.org line.me lin.ee signal.me snapchat.com discord.com discord.gg twitter.com x.com t.co bsky.app reddit.com \
    linkedin.com lnkd.in xing.com pinterest pin.it tiktok.com youtube.com youtu.be twitch.tv vimeo.com spotify.com spotify.link \
    soundcloud.com apple.com linktr.ee linktree.com beacons.ai bio.link lnk.bio linkin.bio taplink.cc campsite.bio msha.ke solo.to \
    stan.store hoo.be allmylinks.com flow.page carrd.co bit.ly tinyurl.com rb.gy cutt.ly is.gd ow.ly goo.gl google g.page forms.gle \
    calendly.com cal.com doctolib treatwell fresha.com eventbrite meetup.com airbnb booking.com tripadvisor yelp etsy.com amazon \
    amzn.to ebay vinted patreon.com ko-fi.com buymeacoffee.com gumroad.com paypal.com paypal.me medium.com substack.com notion.so \
    github.com gitlab.com dropbox.com typeform.com wixsite.com";
/// Those of them on which a host name is one person's. The public suffix list has the others.
const HOSTING: &str = "etsy.com substack.com medium.com gumroad.com typeform.com carrd.co wixsite.com stan.store";
/// Words that end sentences, and suffixes that begin them. Host names of these words have been in use for long.
const ENDS: &str = "\
    fun great nice good cool lovely beautiful amazing wonderful awesome inspiring well much lot too it that this you me them now \
    today yesterday here there work class style post photo video day time love wow shot filter bien toll";
const STARTS: &str = "it is so me my no in to at be am do us as la de es";

fn has(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|listed| listed == word)
}

/// Whether each path of a host is another person's.
pub(super) fn is_shared(host: &str) -> bool {
    // A public suffix, such as github.io, has no domain.
    psl::domain_str(host).is_none_or(|domain| has(SHARED, domain) || has(SHARED, domain.split('.').next().unwrap_or_default()))
}

/// Whether the host's first part names its owner on a shared site.
pub(super) fn is_hosted(host: &str) -> bool {
    host.split_once('.').is_some_and(|(_, site)| has(HOSTING, site))
}

/// Whether a host name is two ordinary words between which the blank is missing.
pub(super) fn is_two_words(end: &str, start: &str) -> bool {
    has(ENDS, end) && has(STARTS, start)
}
