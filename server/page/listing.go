package page

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// pageSize is how many rows a page has.
const pageSize = 50

// listing is a page of a longer list, and how to come to the others.
type listing struct {
	Path   string // of the page, without its query
	Query  string // what names must contain
	Sort   string
	State  string
	Total  int // rows that the search found
	First  int // of this page, from 1 on; 0: there are none
	Last   int
	number int // from 0 on
}

// newListing reads what is asked for.
func newListing(r *http.Request) listing {
	q := r.URL.Query()
	number, _ := strconv.Atoi(q.Get("page")) // what is no number is the first page
	return listing{
		Path: r.URL.EscapedPath(), Query: strings.TrimSpace(q.Get("q")), Sort: q.Get("sort"), State: q.Get("state"),
		number: max(0, number-1),
	}
}

// finds tells whether the search is for one of the names.
func (l listing) finds(names ...string) bool {
	for _, name := range names {
		if strings.Contains(strings.ToLower(name), strings.ToLower(l.Query)) {
			return true
		}
	}
	return false
}

// cut returns which rows of n are on this page. A page behind the end is the last one.
func (l *listing) cut(n int) (from, to int) {
	l.number = min(l.number, max(0, (n-1)/pageSize))
	from = l.number * pageSize
	to = min(n, from+pageSize)
	l.Total, l.First, l.Last = n, from+1, to
	if n == 0 {
		l.First = 0
	}
	return from, to
}

// link changes one of the page's parameters.
func (l listing) link(page int, sort string) string {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("q", l.Query)
	set("state", l.State)
	set("sort", sort)
	if page > 0 {
		set("page", strconv.Itoa(page+1))
	}
	if len(q) == 0 {
		return l.Path
	}
	return l.Path + "?" + q.Encode()
}

// Previous and Next link to the pages beside this one, "" at the ends.
func (l listing) Previous() string {
	if l.number == 0 {
		return ""
	}
	return l.link(l.number-1, l.Sort)
}

// Next is the page after this one.
func (l listing) Next() string {
	if l.Last >= l.Total {
		return ""
	}
	return l.link(l.number+1, l.Sort)
}

// By links to the same rows in another order.
func (l listing) By(sort string) string { return l.link(0, sort) }

// head is the title of a column of numbers; Link sorts by it.
type head struct{ Name, Link string }

// groupHeads are the columns of every table of groups, by the order that each one links to.
var groupHeads = [...]struct{ name, order string }{
	{"Backlog", "backlog"}, {"Oldest", "oldest"}, {"Out /s", "out"}, {"In flight", "flight"},
	{"Retries", "retries"}, {"Dead", "dead"}, {"Members", "members"},
}

// GroupHeads are the columns of a table of groups that can be sorted.
func (l listing) GroupHeads() []head {
	heads := make([]head, len(groupHeads))
	for i, h := range groupHeads {
		heads[i] = head{h.name, l.By(h.order)}
	}
	return heads
}
