package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kiteq/kiteq/internal/protocol"
)

// consumeWire takes and acknowledges deliveries on a raw connection until ctx ends or the connection
// breaks, which is an error. Acks are written when no further delivery is at hand.
func consumeWire(ctx context.Context, l *link, r *receipt) error {
	stop := context.AfterFunc(ctx, l.close)
	defer stop()
	defer l.close()
	var acks []byte
	var m protocol.MessageView
	for {
		f, err := l.next()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("consume as %s: %w", r.group, err)
		}
		if f.Command == protocol.CmdBytesMessage || f.Command == protocol.CmdStringMessage {
			if err := m.Decode(f.Payload); err != nil {
				return fmt.Errorf("consume as %s: %w", r.group, err)
			}
			r.take(string(m.Header.Topic), m.Body, time.Now())
			acks = protocol.AppendDeliverAck(acks, protocol.FramingG, f.Opaque, &m.Header, true, "")
		}
		if len(acks) == 0 || l.more() && len(acks) < 32<<10 {
			continue
		}
		if _, err := l.conn.Write(acks); err != nil && ctx.Err() == nil {
			return fmt.Errorf("consume as %s: %w", r.group, err)
		}
		acks = acks[:0]
	}
}

// member is how a consumer of the group introduces itself: as an old client, unless it asks for credit.
func (b *bench) member(group string) protocol.ConnMeta {
	who := protocol.ConnMeta{GroupID: group}
	if b.o.credit > 0 {
		who.Level, who.Credit = protocol.Level, int32(b.o.credit)
	}
	return who
}
