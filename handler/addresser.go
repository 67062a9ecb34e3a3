package handler

import (
	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// SendTo frames the message for this member. ok is false when it has no credit or takes no bytes now, and
// there is an error of code kite.TooLarge when it does not take this size.
func (c *Courier) SendTo(m kite.Member, opaque uint32, r *kite.Record) (ok bool, err error) {
	s, ok := m.(*session.Session)
	if !ok {
		return false, kite.Errorf(kite.Internal, "a member that is no session: %T", m)
	}
	c.plain = nil
	if !c.fits(s, r) {
		return false, c.tooLarge(s, r)
	}
	if !c.directory.ClaimOf(s) {
		return false, nil
	}
	c.add(s, opaque, protocol.Command(r.Command), c.payload(s, r))
	return true, nil
}

// Choose returns the member of the group with the highest weight for the key (rendezvous hashing): when
// one leaves, only its keys go elsewhere. Members that warm up are chosen rarely, and those that have
// stopped answering when there is nobody else.
func (c *Courier) Choose(group string, key uint64) kite.Member {
	c.serve(group)
	if s := c.directory.Choose(c.members, c.asOf, key); s != nil {
		return s
	}
	return nil
}

// Free tells whether a member of the group has credit and takes bytes.
func (c *Courier) Free(group string) bool {
	c.serve(group)
	return c.directory.Free(c.members)
}

// Members returns who is in the group.
func (c *Courier) Members(group string) []kite.Member {
	sessions := c.directory.Members(group)
	members := make([]kite.Member, 0, len(sessions))
	for _, s := range sessions {
		members = append(members, s)
	}
	return members
}

// Key returns the FNV-1a hash of the message's property. ok is false when it has none, or cannot be read.
func (c *Courier) Key(r *kite.Record, property string) (key uint64, ok bool) {
	if err := c.keyed.Decode(r.Body); err != nil {
		return 0, false
	}
	value, ok := c.keyed.Header.Property(property)
	c.keyed = protocol.MessageView{} // it is a view
	if !ok {
		return 0, false
	}
	const offset, prime = 14695981039346656037, 1099511628211
	key = offset
	for _, b := range value {
		key = (key ^ uint64(b)) * prime
	}
	return key, true
}
