package page

import (
	"net/http"
	"net/url"

	"github.com/kiteq/kiteq/internal/operate"
)

// transactionList is the body of the page with the undecided transactions.
type transactionList struct {
	operate.Transactions
	Topic, Group, State string // what the list is narrowed to
	First               bool
	Further             string // link to the next page, "" at the end
}

func (p *Page) transactions(r *http.Request) (sheet, error) {
	q := r.URL.Query()
	f := operate.Filter{Topic: q.Get("topic"), Group: q.Get("group"), State: q.Get("state"), After: q.Get("after"), Limit: pageSize}
	all, err := p.broker.Transactions(r.Context(), f)
	if err != nil {
		return sheet{}, err
	}
	l := transactionList{Transactions: all, Topic: f.Topic, Group: f.Group, State: f.State, First: f.After == ""}
	l.Further = further(r, all.Next)
	return sheet{Title: "Transactions", Section: "transactions", Live: true, Body: l}, nil
}

// further links to the page after the one asked for, "" at the end.
func further(r *http.Request, next string) string {
	if next == "" {
		return ""
	}
	q := url.Values{}
	for _, key := range []string{"topic", "group", "state"} {
		if value := r.URL.Query().Get(key); value != "" {
			q.Set(key, value)
		}
	}
	q.Set("after", next)
	return r.URL.EscapedPath() + "?" + q.Encode()
}
