package page

import (
	"net/http"

	"github.com/kiteq/kiteq/internal/operate"
)

// delayedList is the body of the page with the messages that wait for their time.
type delayedList struct {
	operate.Delays
	Topic   string // that the list is narrowed to
	First   bool
	Further string // link to the next page, "" at the end
}

func (p *Page) delayed(r *http.Request) (sheet, error) {
	q := r.URL.Query()
	f := operate.Filter{Topic: q.Get("topic"), After: q.Get("after"), Limit: pageSize}
	found, err := p.broker.Delayed(r.Context(), f)
	if err != nil {
		return sheet{}, err
	}
	l := delayedList{Delays: found, Topic: f.Topic, First: f.After == "", Further: further(r, found.Next)}
	return sheet{Title: "For later", Section: "delayed", Live: true, Body: l}, nil
}
