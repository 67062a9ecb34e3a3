package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
	"github.com/kiteq/kiteq/internal/protocol"
)

func newPeek(g *globals) *cobra.Command {
	var seq uint64
	var since string
	var count int
	cmd := &cobra.Command{
		Use:   "peek TOPIC",
		Short: "Read the messages of a topic without consuming them",
		Long: `Print what the journals of the topic's brokers have: the newest messages, those from --seq on, or those stored at
--time or later. Nobody's place moves, no binding is needed, and what groups have settled is shown as long as it is
kept. Sequence numbers are those of each broker.`,
		Example: `  kiteqctl peek trade
  kiteqctl peek trade --time 2026-01-02T15:00:00Z -n 100 -o json
  kiteqctl peek trade --seq 17 -n 1 --broker 10.0.0.7:13800`,
		Args: names(0, "TOPIC"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			switch {
			case count < 1:
				return usage("--count %d: give 1 or more", count)
			case seq > 0 && since != "":
				return usage("give --seq or --time, and one of them only")
			}
			ctx := cmd.Context()
			var rows []peeked
			err := g.each(ctx, args[0], func(d desk) error {
				page, err := g.peek(ctx, d, args[0], seq, since, count)
				rows = append(rows, page...)
				return err
			})
			return listed(err, len(rows), func() error { return g.printPeeked(rows) })
		}),
	}
	cmd.Flags().Uint64Var(&seq, "seq", 0, "begin with the message of this `NUMBER`")
	cmd.Flags().StringVar(&since, "time", "", "begin with the first that was stored at `TIME`: RFC 3339 or Unix milliseconds")
	cmd.Flags().IntVarP(&count, "count", "n", 10, "at most `N` messages of each broker")
	return cmd
}

// peek fetches up to count messages of one broker, page by page.
func (g *globals) peek(ctx context.Context, d desk, topic string, seq uint64, since string, count int) (rows []peeked, err error) {
	from := ""
	if seq > 0 {
		from = strconv.FormatUint(seq, 10)
	}
	for count > 0 {
		var page operate.Messages
		asked := query("from", from, "time", since, "limit", strconv.Itoa(min(count, operate.MaxPage)))
		if err := g.call(ctx, d, "GET", "/topics"+path(topic, "messages")+"?"+asked, nil, &page); err != nil {
			return rows, err
		}
		for i := range page.Messages {
			rows = append(rows, newPeeked(d, topic, &page.Messages[i]))
		}
		if count -= len(page.Messages); page.Next == 0 {
			break
		}
		from, since = strconv.FormatUint(page.Next, 10), ""
	}
	return rows, nil
}

// peeked is a message as JSON. Exactly one of Body and BodyBase64 is there.
type peeked struct {
	Topic      string            `json:"topic"`
	Seq        uint64            `json:"seq"`
	ID         string            `json:"id"`
	Type       string            `json:"type"`
	Group      string            `json:"group,omitempty"` // the publisher's
	Stored     *time.Time        `json:"stored,omitempty"`
	Expires    *time.Time        `json:"expires,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Snappy     bool              `json:"snappy,omitempty"` // it was published compressed; Body is plain
	Body       *string           `json:"body,omitempty"`
	BodyBase64 []byte            `json:"bodyBase64,omitempty"`
	Broker     string            `json:"broker"`
}

func newPeeked(d desk, topic string, m *operate.Message) peeked {
	p := peeked{
		Topic: topic, Seq: m.Seq, ID: m.ID, Type: m.Type, Stored: milliseconds(m.StoredMs), Expires: milliseconds(m.ExpiresMs),
		BodyBase64: m.Body, Broker: d.base,
	}
	if h := m.Header; h != nil {
		p.Group, p.Properties, p.Snappy = h.Group, h.Properties, h.Snappy
		if plain, err := protocol.Decompress(m.Body, h.Text); h.Snappy && err == nil {
			p.BodyBase64 = plain
		}
	}
	if utf8.Valid(p.BodyBase64) {
		body := string(p.BodyBase64)
		p.Body, p.BodyBase64 = &body, nil
	}
	return p
}

func (p *peeked) text() string {
	body := string(p.BodyBase64)
	if p.Body != nil {
		body = *p.Body
	}
	stored := "-"
	if p.Stored != nil {
		stored = localTime(p.Stored.UnixMilli(), "-")
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s\t%s\t%s\t%s", p.Seq, p.ID, orDash(p.Type), orDash(p.Group), stored, p.Broker, oneLine([]byte(body)))
}

func (g *globals) printPeeked(rows []peeked) error {
	return g.table("SEQ\tID\tTYPE\tPUBLISHER\tSTORED\tBROKER\tBODY", len(rows), func(i int) (any, string) { return rows[i], rows[i].text() })
}
