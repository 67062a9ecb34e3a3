package admin

import (
	"context"
	"net/http"
	"strconv"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Reader reads the messages of a topic.
type Reader interface {
	// Messages moves nobody's place. What it answers is bounded in number and bytes.
	Messages(ctx context.Context, topic string, p operate.Peek) (operate.Messages, error)
}

// peek answers GET /topics/{topic}/messages.
func (d *desk) peek(r *http.Request) (any, error) {
	topic := r.PathValue("topic")
	if err := kite.CheckTopic(topic); err != nil {
		return nil, err
	}
	f, err := filter(r, "from", "time", "limit")
	if err != nil {
		return nil, err
	}
	p := operate.Peek{Time: r.FormValue("time"), Limit: f.Limit}
	if from := r.FormValue("from"); from != "" {
		if p.From, err = strconv.ParseUint(from, 10, 64); err != nil || p.From == 0 {
			return nil, kite.Errorf(kite.Invalid, "from %.32q: give a sequence number, 1 or more", from)
		}
	}
	if p.From > 0 && p.Time != "" {
		return nil, kite.Errorf(kite.Invalid, "from and time: give one of them only")
	}
	return d.operator.Messages(r.Context(), topic, p)
}
