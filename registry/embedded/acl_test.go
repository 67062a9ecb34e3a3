package embedded

import (
	"errors"
	"testing"

	"github.com/go-zookeeper/zk"
	"github.com/google/go-cmp/cmp"
)

func TestValidPath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{
		"/": true, "/a": true, "/a/b": true, "/a..b/.c/...": true, "/ü/日本": true, "/a b": true,
		"": false, "a": false, "a/b": false, "/a/": false, "//": false, "/a//b": false, "/.": false, "/a/..": false,
		"/./a": false, "/a\x00": false, "/a\x1f": false, "/a\x7f": false, "/\ue000": false, "/\ufff0": false,
		"/😀": false, "/\xff": false,
	} {
		if got := validPath(path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}

func TestSettleACL(t *testing.T) {
	t.Parallel()
	ann, bob := identity{"digest", "ann:x"}, identity{"digest", "bob:y"}
	who := []identity{{"ip", "127.0.0.1"}, ann, bob}
	tests := []struct {
		name string
		asks []aclEntry
		who  []identity
		want []aclEntry
	}{
		{"open", openACL(), nil, openACL()},
		{"none", nil, who, nil},
		{"twice", append(openACL(), openACL()...), nil, openACL()},
		{"auth", []aclEntry{{1, identity{"auth", ""}}}, who, []aclEntry{{1, ann}, {1, bob}}},
		{"auth of nobody", []aclEntry{{1, identity{"auth", ""}}}, who[:1], nil},
		{"world of somebody", []aclEntry{{1, identity{"world", "ann"}}}, who, nil},
		{"unknown scheme", []aclEntry{{1, identity{"sasl", "ann"}}}, who, nil},
		{"digest without user", []aclEntry{{1, identity{"digest", "x"}}}, who, nil},
		{"address", []aclEntry{{1, identity{"ip", "10.0.0.1"}}}, who, []aclEntry{{1, identity{"ip", "10.0.0.1"}}}},
		{"no address", []aclEntry{{1, identity{"ip", "10.0.0"}}}, who, nil},
	}
	for _, tt := range tests {
		got, ok := settleACL(tt.asks, tt.who)
		if !ok {
			got = nil
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(aclEntry{}, identity{})); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	ann := identity{"digest", "ann:x"}
	who := []identity{{"ip", "10.1.2.3"}, ann}
	entry := func(perms int32, scheme, name string) []aclEntry { return []aclEntry{{perms, identity{scheme, name}}} }
	tests := []struct {
		name string
		acl  []aclEntry
		perm int32
		want bool
	}{
		{"no ACL", nil, permAdmin, true},
		{"world", entry(permRead, "world", "anyone"), permRead, true},
		{"world, other permission", entry(permRead, "world", "anyone"), permWrite, false},
		{"one of two permissions", entry(permRead, "world", "anyone"), permRead | permAdmin, true},
		{"digest", entry(permWrite, "digest", "ann:x"), permWrite, true},
		{"another's digest", entry(permWrite, "digest", "bob:x"), permWrite, false},
		{"address", entry(permWrite, "ip", "10.1.2.3"), permWrite, true},
		{"network", entry(permWrite, "ip", "10.1.0.0/16"), permWrite, true},
		{"network with host bits", entry(permWrite, "ip", "10.1.9.9/16"), permWrite, true},
		{"another network", entry(permWrite, "ip", "10.2.0.0/16"), permWrite, false},
	}
	for _, tt := range tests {
		if got := allowed(tt.acl, who, tt.perm); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestDigestThroughClient(t *testing.T) {
	t.Parallel()
	s := start(t, Options{})
	ann, other := dial(t, s.Addr(), generous), dial(t, s.Addr(), generous)
	must(t, ann.AddAuth("digest", []byte("ann:secret")))
	_, err := ann.Create("/own", []byte("x"), 0, zk.AuthACL(zk.PermAll))
	must(t, err)
	acl, _, err := ann.GetACL("/own")
	must(t, err)
	if diff := cmp.Diff(zk.DigestACL(zk.PermAll, "ann", "secret"), acl); diff != "" {
		t.Error(diff)
	}
	refused := map[string]error{}
	_, _, refused["get"] = other.Get("/own")
	_, refused["set"] = other.Set("/own", nil, -1)
	_, _, refused["children"] = other.Children("/own")
	_, refused["create"] = other.Create("/own/c", nil, 0, zk.WorldACL(zk.PermAll))
	_, refused["acl"] = other.SetACL("/own", zk.WorldACL(zk.PermAll), -1)
	_, _, refused["get acl"] = other.GetACL("/own")
	for op, err := range refused {
		if !errors.Is(err, zk.ErrNoAuth) {
			t.Errorf("%s: %v", op, err)
		}
	}
	// Who may only read does not see the digest.
	_, err = ann.SetACL("/own", append(zk.DigestACL(zk.PermAll, "ann", "secret"), zk.WorldACL(zk.PermRead)...), 0)
	must(t, err)
	acl, _, err = other.GetACL("/own")
	if err != nil || acl[0].ID != "ann:x" {
		t.Errorf("acl %v, %v", acl, err)
	}
	must(t, other.AddAuth("digest", []byte("ann:secret")))
	must(t, other.Delete("/own", -1))
	if err := other.AddAuth("kerberos", []byte("x")); !errors.Is(err, zk.ErrAuthFailed) {
		t.Errorf("unknown scheme: %v", err)
	}
}
