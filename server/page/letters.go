package page

import (
	"cmp"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/internal/operate"
)

// graveList is the body of the page with the groups that have dead letters.
type graveList struct {
	listing
	Rows []*groupRow
}

func (p *Page) graves(r *http.Request) (sheet, error) {
	l := graveList{listing: newListing(r)}
	rows, err := p.groupRows(r.Context(), func(g *groupRow) bool { return g.Dead > 0 && l.finds(g.Topic, g.Group.Group) })
	if err != nil {
		return sheet{}, err
	}
	sortGroups(rows, "dead")
	from, to := l.cut(len(rows))
	l.Rows = rows[from:to]
	return sheet{Title: "Dead letters", Section: "deadletters", Live: true, Body: l}, nil
}

// letterList is the body of the page with the dead letters of one group.
type letterList struct {
	Topic, Group string
	Letters      []operate.Letter
	First        bool
	Further      string
}

func (p *Page) letters(r *http.Request) (sheet, error) {
	topic, group, err := topicAndGroup(r)
	if err != nil {
		return sheet{}, err
	}
	l := letterList{Topic: topic, Group: group}
	f := operate.Filter{Topic: l.Topic, Group: l.Group, After: r.URL.Query().Get("after"), Limit: pageSize}
	found, err := p.broker.Letters(r.Context(), f, false)
	if err != nil {
		return sheet{}, err
	}
	l.Letters, l.First, l.Further = found.Letters, f.After == "", further(r, found.Next)
	return sheet{Title: "Dead letters of " + l.Group + " on " + l.Topic, Section: "deadletters", Body: l}, nil
}

// shownBody is how many bytes of a message are shown.
const shownBody = 16 << 10

// letterSheet is the body of the page of one dead letter.
type letterSheet struct {
	operate.Letter
	Properties []property
	Text       string // the message, as it is or as a hex dump
	Hex        bool
	Bytes      int // of the whole message
	Cut        bool
}

type property struct{ Key, Value string }

// topicAndGroup reads and checks both from the path.
func topicAndGroup(r *http.Request) (topic, group string, err error) {
	topic, group = r.PathValue("topic"), r.PathValue("group")
	return topic, group, errors.Join(kite.CheckTopic(topic), kite.CheckGroup(group))
}

// letterOf reads which dead letter is meant.
func letterOf(r *http.Request) (topic, group string, n kite.Seq, err error) {
	if topic, group, err = topicAndGroup(r); err != nil {
		return "", "", 0, err
	}
	number, err := strconv.ParseUint(r.PathValue("n"), 10, 64)
	if err != nil || number == 0 {
		return "", "", 0, kite.Errorf(kite.Invalid, "dead letter %.32q: give its number, 1 or more", r.PathValue("n"))
	}
	return topic, group, kite.Seq(number), nil
}

func (p *Page) letter(r *http.Request) (sheet, error) {
	topic, group, n, err := letterOf(r)
	if err != nil {
		return sheet{}, err
	}
	found, err := p.broker.Letter(r.Context(), topic, group, n)
	if err != nil {
		return sheet{}, err
	}
	l := letterSheet{Letter: found, Bytes: len(found.Body)}
	if found.Header != nil {
		for key, value := range found.Header.Properties {
			l.Properties = append(l.Properties, property{key, value})
		}
		slices.SortFunc(l.Properties, func(a, b property) int { return cmp.Compare(a.Key, b.Key) })
	}
	shown := found.Body
	if l.Cut = len(shown) > shownBody; l.Cut {
		shown = shown[:shownBody]
		for range utf8.UTFMax - 1 { // no character is cut in two
			if utf8.RuneStart(found.Body[len(shown)]) {
				break
			}
			shown = shown[:len(shown)-1]
		}
	}
	if l.Text = string(shown); !utf8.Valid(shown) {
		l.Hex, l.Text = true, hex.Dump(shown[:min(len(shown), shownBody/8)])
	}
	return sheet{Title: "Dead letter " + strconv.FormatUint(l.N, 10) + " of " + l.Group, Section: "deadletters", Body: l}, nil
}
