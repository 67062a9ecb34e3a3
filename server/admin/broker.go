package admin

import (
	"context"
	"net/http"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// Caretaker knows the broker as a whole.
type Caretaker interface {
	// Status tells how the broker is.
	Status(ctx context.Context) (operate.Status, error)
	// Drain takes the broker out of service, or back into it: nobody finds it any more, publishes are refused after a
	// while, and deliveries go on. Nothing of it is journaled: a restarted broker serves.
	Drain(ctx context.Context, on bool, note kite.Note) (operate.Status, error)
}

// broker answers GET /broker.
func (d *desk) broker(r *http.Request) (any, error) {
	if r.URL.RawQuery != "" {
		return nil, kite.Errorf(kite.Invalid, "query %.64q: /broker takes none", r.URL.RawQuery)
	}
	return d.operator.Status(r.Context())
}

// orderBroker answers POST /broker/drain and /broker/serve.
func (d *desk) orderBroker(r *http.Request) (any, error) {
	order := r.PathValue("order")
	if order != "drain" && order != "serve" {
		return nil, kite.Errorf(kite.NotServed, "order %.64q: give drain or serve", order)
	}
	note, err := noted(r, false)
	if err != nil {
		return nil, err
	}
	return d.operator.Drain(r.Context(), order == "drain", note)
}
