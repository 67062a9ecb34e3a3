package zk

import (
	"context"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/kiteq/kiteq/registry"
)

// Who may do what with the nodes that a protecting session makes. Existing clients have no credentials: they
// must read everything, and make and write the nodes of their bindings and of their publishing.
//
//	node                                 with the digest   everybody else
//	chroot, /kiteq                       all               read, create
//	/kiteq/sub, /kiteq/sub/TOPIC         all               read, create: binds, and unbinds nobody
//	/kiteq/pub and below                 all               read, create
//	/kiteq/server, alive_servers and
//	so on, and the brokers' own nodes    all               read: nobody poses as a broker
//	a bind node                          all               read: the group's clients have the digest
//
// A bind node that a client without credentials makes is open, as it ever was, and so is one that is restored:
// such a client must be able to write it.

// acls knows what nodes are made with. The zero value leaves them open to everybody.
type acls struct{ auth string }

// of returns the ACL of a node, without the chroot; "" is a node of the chroot.
func (a acls) of(path string) []zk.ACL {
	if a.auth == "" {
		return zk.WorldACL(zk.PermAll)
	}
	user, password, _ := strings.Cut(a.auth, ":")
	everybody := int32(zk.PermRead)
	below := func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
	bindings := below(registry.SubDir) && strings.Count(path, "/") <= strings.Count(registry.BindingsNode("topic"), "/")
	if path == "" || path == registry.RootNode || bindings || below(registry.PubDir) {
		everybody |= zk.PermCreate
	}
	return append(zk.DigestACL(zk.PermAll, user, password), zk.WorldACL(everybody)...)
}

// protect gives a node that somebody else has made the ACL that it should have. One that does not let us stays as
// it is: an operator made it so.
func (s *session) protect(ctx context.Context, full string, want []zk.ACL) error {
	if s.acls.auth == "" || s.protected(full) {
		return nil
	}
	_, err := ask(ctx, s, func(c *zk.Conn) (struct{}, error) {
		has, stat, err := c.GetACL(full)
		if err != nil || same(has, want) {
			return struct{}{}, err
		}
		_, err = c.SetACL(full, want, stat.Aversion)
		return struct{}{}, err
	})
	switch err {
	case nil:
		s.done.Store(full, true)
	case zk.ErrNoAuth, zk.ErrBadVersion, zk.ErrNoNode: // another broker of ours is at it, too
		return nil
	}
	return err
}

func (s *session) protected(full string) bool {
	_, done := s.done.Load(full)
	return done
}

// same compares ACLs; the server may have them in another order.
func same(a, b []zk.ACL) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(one zk.ACL) bool { return !slices.Contains(b, one) })
}
