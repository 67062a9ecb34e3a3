package handler

import (
	"slices"
	"time"

	"github.com/kiteq/kiteq/handler/session"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol"
)

// Courier frames deliveries for members. One goroutine uses it.
type Courier struct {
	directory *session.Directory
	now       func() time.Time

	// Until the next Flush: the members of the group that is served, as of when.
	group   string
	members []*session.Session
	asOf    time.Time

	out    map[*session.Session]*session.Buffer
	last   *session.Session // most runs go to one member: its buffer is found without the map
	buffer *session.Buffer
	keyed  protocol.MessageView // the message of this Key
	plain  []byte               // the message of this Send for clients of framing L, once it was needed
}

// NewCourier returns a courier with nothing to carry.
func NewCourier(directory *session.Directory) *Courier {
	return &Courier{directory: directory, now: time.Now, out: map[*session.Session]*session.Buffer{}}
}

// flushBytes bounds what waits for the flush in one member's buffer, but for a message that is larger alone.
const flushBytes = 256 << 10

// Send frames the message for a member of the group that has credit. It returns nil when nobody can
// take it now, and an error of code kite.TooLarge when none of the members takes this size.
func (c *Courier) Send(group string, opaque uint32, r *kite.Record) (kite.Member, error) {
	c.plain = nil
	c.serve(group)
	s := c.directory.Claim(c.members, c.asOf, nil)
	if s != nil && !c.fits(s, r) {
		s.Unclaim()
		var err error
		if s, err = c.claimLarge(r); err != nil {
			return nil, err
		}
	}
	if s == nil {
		return nil, nil
	}
	c.add(s, opaque, protocol.Command(r.Command), c.payload(s, r))
	return s, nil
}

// serve looks who is in the group.
func (c *Courier) serve(group string) {
	if c.members == nil || c.group != group {
		// A turn's Sends come after it has taken its events. So who is gone for it is not found here, and
		// who leaves during the turn is lost to the next.
		c.group, c.members, c.asOf = group, c.directory.Members(group), c.now()
	}
}

// add appends a delivery to the member's buffer.
func (c *Courier) add(s *session.Session, opaque uint32, command protocol.Command, payload []byte) {
	if s != c.last {
		c.last, c.buffer = s, c.out[s]
	}
	if c.buffer != nil && len(c.buffer.B)+len(payload) > flushBytes {
		s.Conn.Write(c.buffer)
		c.buffer = nil
	}
	if c.buffer == nil {
		c.buffer = session.NewBuffer()
		c.out[s] = c.buffer
	}
	c.buffer.B = protocol.Framing(s.Framing).AppendFrame(c.buffer.B, opaque, command, payload)
}

// payload is the message as the member understands it: clients of framing L know nothing of compressed
// bodies and get them plain. One that cannot be decompressed is handed on as it came.
func (c *Courier) payload(s *session.Session, r *kite.Record) []byte {
	if protocol.Framing(s.Framing) != protocol.FramingL {
		return r.Body
	}
	if c.plain == nil {
		c.plain = r.Body
		var m protocol.MessageView
		if err := m.Decode(r.Body); err == nil && m.Header.Snappy {
			if plain, err := protocol.AppendPlain(nil, protocol.Command(r.Command), r.Body, &m); err == nil {
				c.plain = plain
			}
		}
	}
	return c.plain
}

func (c *Courier) fits(s *session.Session, r *kite.Record) bool {
	return len(c.payload(s, r)) <= protocol.Framing(s.Framing).MaxPayload()
}

// claimLarge is Claim among the members whose framing takes the message. Old and new clients may share a group.
func (c *Courier) claimLarge(r *kite.Record) (*session.Session, error) {
	fits := func(s *session.Session) bool { return c.fits(s, r) }
	c.members = c.directory.Members(c.group) // it would be the message's end: nobody who has come is overlooked
	if len(c.members) == 0 || slices.ContainsFunc(c.members, fits) {
		return c.directory.Claim(c.members, c.asOf, fits), nil
	}
	return nil, c.tooLarge(c.members[0], r)
}

func (c *Courier) tooLarge(s *session.Session, r *kite.Record) error {
	framing := protocol.Framing(s.Framing)
	return kite.Errorf(kite.TooLarge, "payload of %d bytes, clients of framing %s take %d", len(c.payload(s, r)), framing, framing.MaxPayload())
}

// Online tells whether the group has a live member.
func (c *Courier) Online(group string) bool { return c.directory.Online(group) }

// Flush sends what Send gathered: one write for each member.
func (c *Courier) Flush() {
	for s, b := range c.out {
		s.Conn.Write(b)
	}
	clear(c.out)
	c.last, c.buffer, c.members = nil, nil, nil
}
