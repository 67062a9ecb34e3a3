package embedded

import (
	"crypto/sha1"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
)

// The permissions of an ACL entry.
const (
	permRead   int32 = 1 << iota // getData, getChildren, getACL
	permWrite                    // setData
	permCreate                   // create children
	permDelete                   // delete children
	permAdmin                    // setACL
)

// identity is who somebody is (a connection has several) or who an ACL entry is for.
//
// Schemes: world (anyone), ip (address, or network "10.0.0.0/8"), digest ("user:base64(sha1(user:password))")
// and, only in a request, auth (whoever the connection has shown itself to be).
type identity struct {
	scheme, name string
}

type aclEntry struct {
	perms int32
	id    identity
}

func openACL() []aclEntry {
	return []aclEntry{{permRead | permWrite | permCreate | permDelete | permAdmin, identity{"world", "anyone"}}}
}

// allowed tells whether one of the identities has one of the permissions. A node without an ACL is open.
func allowed(acl []aclEntry, who []identity, perm int32) bool {
	if len(acl) == 0 {
		return true
	}
	for _, a := range acl {
		if a.perms&perm != 0 && (a.id.scheme == "world" || slices.ContainsFunc(who, a.id.covers)) {
			return true
		}
	}
	return false
}

// covers tells whether the holder of id, an entry of an ACL, may be who.
func (i identity) covers(who identity) bool {
	if i.scheme != who.scheme {
		return false
	}
	if i.scheme == "ip" {
		network, ok := parseNetwork(i.name)
		addr, err := netip.ParseAddr(who.name)
		return ok && err == nil && network.Contains(addr)
	}
	return i.name == who.name
}

func parseNetwork(s string) (netip.Prefix, bool) {
	if network, err := netip.ParsePrefix(s); err == nil {
		return network.Masked(), true
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr, addr.BitLen()), true
}

// settleACL turns the ACL of a request into the one that is kept: repetitions go, "auth" becomes
// the connection's own credentials, and an unknown scheme or malformed name makes it invalid.
func settleACL(asked []aclEntry, who []identity) ([]aclEntry, bool) {
	var kept []aclEntry
	seen := make(map[aclEntry]bool, len(asked))
	for _, a := range asked {
		if seen[a] {
			continue
		}
		seen[a] = true
		if a.id.scheme == "auth" {
			before := len(kept)
			for _, id := range who {
				if id.scheme == "digest" {
					kept = append(kept, aclEntry{a.perms, id})
				}
			}
			if len(kept) == before {
				return nil, false
			}
			continue
		}
		if !a.id.valid() {
			return nil, false
		}
		kept = append(kept, a)
	}
	return kept, len(kept) > 0
}

func (i identity) valid() bool {
	switch i.scheme {
	case "world":
		return i.name == "anyone"
	case "digest":
		_, sum, found := strings.Cut(i.name, ":")
		return found && sum != "" && !strings.Contains(sum, ":")
	case "ip":
		_, ok := parseNetwork(i.name)
		return ok
	}
	return false
}

// digestIdentity turns "user:password" into the identity that ACLs name.
func digestIdentity(credentials []byte) identity {
	user, _, _ := strings.Cut(string(credentials), ":")
	sum := sha1.Sum(credentials)
	return identity{"digest", user + ":" + base64.StdEncoding.EncodeToString(sum[:])}
}

// maskACL hides the digests from who may read but not administer a node.
func maskACL(acl []aclEntry) []aclEntry {
	masked := slices.Clone(acl)
	for i, a := range masked {
		if a.id.scheme == "digest" {
			user, _, _ := strings.Cut(a.id.name, ":")
			masked[i].id.name = user + ":x"
		}
	}
	return masked
}
