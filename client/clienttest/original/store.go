package original

import (
	"regexp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/protocol/wire"
)

// lifetime is how long a message is kept at most.
const lifetime = 7 * 24 * time.Hour

var hexDigits = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

// acceptLocked applies the rules for a published message in the original's order, normalises the header,
// and returns why it is refused, or nothing.
func (b *Broker) acceptLocked(h *wire.Header, now time.Time) (refusal string) {
	if topics := slices.Sorted(slices.Values(b.options.Topics)); len(topics) > 0 && h.GetTopic() > topics[len(topics)-1] {
		return "UnSupport Topic Message!"
	}
	if !hexDigits.MatchString(h.GetMessageId()) {
		return "Invalid MessageId For UUID!"
	}
	if h.GetCreateTime() <= 0 {
		h.CreateTime = proto.Int64(now.Unix())
	}
	if l := h.GetDeliverLimit(); l <= 0 || l > 100 {
		h.DeliverLimit = proto.Int32(100)
	}
	latest := now.Add(lifetime).Unix()
	switch e := h.GetExpiredTime(); {
	case e <= 0 || e > latest:
		h.ExpiredTime = proto.Int64(latest)
	case e <= now.Unix():
		return "Expired Message!"
	}
	if h.GetFly() && !h.GetCommit() {
		return "FLY MUST BE COMMITTED !"
	}
	return ""
}

// storeLocked adds the message; false means that the store has the id.
func (b *Broker) storeLocked(m *message) bool {
	if b.options.RefuseDuplicates && b.findLocked(m.header.GetMessageId()) != nil {
		return false
	}
	b.messages = append(b.messages, m)
	return true
}

func (b *Broker) findLocked(id string) *message {
	i := slices.IndexFunc(b.messages, func(m *message) bool { return m.header.GetMessageId() == id })
	if i < 0 {
		return nil
	}
	return b.messages[i]
}

func (b *Broker) removeLocked(m *message) {
	b.messages = slices.DeleteFunc(b.messages, func(other *message) bool { return other == m })
}

// deliverLocked sends the message to one member of each group that wants it and has not got it.
func (b *Broker) deliverLocked(m *message) {
	for group := range b.wantedLocked(m) {
		if !m.done[group] {
			b.sendLocked(&attempt{of: m, group: group})
		}
	}
	b.settleLocked(m)
}

// wantedLocked returns the groups bound to the message, and which of them are persistent.
func (b *Broker) wantedLocked(m *message) map[string]bool {
	groups := map[string]bool{}
	if b.options.Bindings == nil {
		return groups
	}
	for group, bindings := range b.options.Bindings(m.header.GetTopic()) {
		matcher, err := kite.NewMatcher(bindings)
		if err == nil && matcher.Matches([]byte(m.header.GetMessageType())) {
			groups[group] = slices.ContainsFunc(bindings, func(binding kite.Binding) bool { return binding.Durable })
		}
	}
	return groups
}

// sendLocked is one attempt. Offline members of a group that is not persistent count as served.
func (b *Broker) sendLocked(a *attempt) {
	s := b.memberLocked(a.group)
	if s == nil {
		if !b.wantedLocked(a.of)[a.group] {
			a.of.done[a.group] = true
		}
		return
	}
	a.tries++
	b.requestLocked(s, a.of.command, a.of.payload(), a)
}

// settleLocked forgets the message when every group has it: also when there is none.
func (b *Broker) settleLocked(m *message) {
	for group := range b.wantedLocked(m) {
		if !m.done[group] {
			return
		}
	}
	b.removeLocked(m)
}

// checkLocked asks a member of the publisher's group what became of the message.
func (b *Broker) checkLocked(m *message) {
	if s := b.memberLocked(m.header.GetGroupId()); s != nil {
		question := &wire.TxACKPacket{Header: m.header, Status: proto.Int32(0), Feedback: proto.String("Server Check")}
		b.requestLocked(s, txAck, marshal(question), &attempt{of: m})
	}
}

// payload is the message as it is delivered: with the header as stored, commit=false included.
func (m *message) payload() []byte {
	if m.command == stringMessage {
		return marshal(&wire.StringMessage{Header: m.header, Body: proto.String(string(m.body))})
	}
	return marshal(&wire.BytesMessage{Header: m.header, Body: m.body})
}
