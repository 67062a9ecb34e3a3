package server

import (
	"context"
	"slices"

	"github.com/kiteq/kiteq/handler/deliver"
	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/internal/protocol"
)

// peekBytes bounds the messages of one answer: a page ends when it has as many bytes, whatever its limit. The
// message that passes it is there, too, so that every page brings one.
const peekBytes = 4 << 20

// Messages implements admin.Reader.
func (s *Server) Messages(ctx context.Context, topic string, p operate.Peek) (operate.Messages, error) {
	first, next := s.journal.Bounds(topic)
	page := operate.Messages{Topic: topic, Messages: []operate.Message{}, First: uint64(first), Head: uint64(max(next, 1) - 1)}
	if first == next && !slices.Contains(*s.topics.Load(), topic) {
		return page, kite.Errorf(kite.NotServed, "topic %q: it is not served here, and the journal has nothing of it", topic)
	}
	from := kite.Seq(p.From)
	switch {
	case p.Time != "":
		ms, err := parseTime(p.Time)
		if err != nil {
			return page, err
		}
		from = deliver.Since(s.journal, topic, next, ms)
	case from == 0 && next > kite.Seq(p.Limit):
		from = next - kite.Seq(p.Limit)
	}
	size := 0
	err := s.journal.Read(topic, max(from, 1), func(r *kite.Record) bool {
		if len(page.Messages) == p.Limit || size >= peekBytes {
			page.Next = uint64(r.Seq)
			return false
		}
		size += len(r.Body)
		m := operate.Message{Seq: uint64(r.Seq), ID: r.ID.String(), Type: string(r.Type), StoredMs: r.TimeMs, ExpiresMs: r.ExpiresMs}
		m.Header, m.Body = unpack(r.Command, r.Body)
		page.Messages = append(page.Messages, m)
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	return page, err
}

// unpack copies what a payload says: as it lies there, without a header, when it cannot be understood.
func unpack(command uint8, payload []byte) (*operate.Header, []byte) {
	var m protocol.MessageView
	if m.Decode(payload) != nil {
		return nil, append([]byte{}, payload...)
	}
	h := &m.Header
	header := &operate.Header{
		Group: string(h.GroupID), CreatedS: h.CreateTime, ExpiresS: h.ExpiredTime, Limit: int(h.DeliverLimit),
		Text: protocol.Command(command) == protocol.CmdStringMessage, Snappy: h.Snappy,
	}
	for key, value := range h.Properties {
		if header.Properties == nil {
			header.Properties = map[string]string{}
		}
		header.Properties[string(key)] = string(value)
	}
	return header, append([]byte{}, m.Body...)
}
