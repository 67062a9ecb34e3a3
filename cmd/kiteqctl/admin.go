package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

// desk is one broker's HTTP interface for operators.
type desk struct {
	base string // http://host:port
}

// desks returns those of the brokers: of --admin, of --broker, or of all that the registry has for the topic,
// "" meaning every topic. Brokers listen for operators one port above that for clients unless they were
// told otherwise; only then --admin is needed.
func (g *globals) desks(ctx context.Context, topic string) ([]desk, error) {
	switch {
	case g.admin != "":
		var all []desk
		for _, addr := range strings.Split(g.admin, ",") {
			d, err := parseDesk(addr)
			if err != nil {
				return nil, err
			}
			all = append(all, d)
		}
		return all, nil
	case g.broker != "":
		d, err := deskOf(g.broker)
		return []desk{d}, err
	}
	var topics []string
	if topic != "" {
		topics = []string{topic}
	}
	found := map[desk]bool{}
	err := g.inspect(ctx, topics, func(ctx context.Context, r directory, topics []string) error {
		brokers, err := first(ctx, topics, r, r.WatchBrokers)
		for _, addrs := range brokers {
			for _, addr := range addrs {
				if d, bad := deskOf(addr); bad == nil {
					found[d] = true
				}
			}
		}
		return err
	})
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the registry at %s has no broker%s: name one with --broker or --admin", g.zkhost, ofTopic(topic))
	}
	all := make([]desk, 0, len(found))
	for d := range found {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b desk) int { return strings.Compare(a.base, b.base) })
	return all, err
}

func ofTopic(topic string) string {
	if topic == "" {
		return ""
	}
	return " of topic " + topic
}

// parseDesk reads one address of --admin.
func parseDesk(addr string) (desk, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "http" && u.Scheme != "https" {
		return desk{}, usage("--admin %q: give host:port or http://host:port", addr)
	}
	return desk{u.Scheme + "://" + u.Host}, nil
}

// deskOf returns the desk of the broker that clients dial at addr.
func deskOf(addr string) (desk, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return desk{}, usage("--broker %q: give host:port", addr)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65534 {
		return desk{}, usage("--broker %q: nothing listens for operators one port above %q: give --admin", addr, port)
	}
	return desk{"http://" + net.JoinHostPort(host, strconv.Itoa(n+1))}, nil
}

// errUnknown says that none of the brokers knows what was asked for; an unknown says so, and which broker and what.
var errUnknown = errors.New("not known")

type unknown struct{ error }

func (unknown) Is(target error) bool { return target == errUnknown }

// maxAnswer bounds what is read of one answer, bytes.
const maxAnswer = 64 << 20

// call asks the broker and decodes the answer into v. What the broker does not know is errUnknown.
func (g *globals) call(ctx context.Context, d desk, method, path string, order, v any) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	response, err := g.send(ctx, d, method, path, order)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("broker at %s: its answer: %w", d.base, err)
	}
	return nil
}

// send returns an answer of status 200. It tells who asks.
func (g *globals) send(ctx context.Context, d desk, method, path string, order any) (*http.Response, error) {
	var body io.Reader
	if order != nil {
		encoded, err := json.Marshal(order)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return nil, err
	}
	if err := g.introduce(request); err != nil {
		return nil, err
	}
	config, err := g.security.config()
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config}}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("broker at %s: %w: --admin names another address for operators", d.base, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var refused operate.Error
	raw, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if json.Unmarshal(raw, &refused) != nil || refused.Error == "" {
		refused.Error = response.Status
	}
	err = fmt.Errorf("broker at %s: %s%s", d.base, refused.Error, refusedBecause(response.StatusCode))
	switch response.StatusCode {
	case http.StatusNotFound:
		err = unknown{err}
	case http.StatusBadRequest:
		err = usage("%w", err)
	}
	return nil, err
}

// each calls ask for every broker. Those that do not know what it is about are passed over, unless none does; a
// broker that cannot be asked is an error after the others have been.
func (g *globals) each(ctx context.Context, topic string, ask func(desk) error) error {
	all, err := g.desks(ctx, topic)
	if err != nil {
		return err
	}
	var failed, unknown []error
	for _, d := range all {
		switch err := ask(d); {
		case errors.Is(err, errUnknown):
			unknown = append(unknown, err)
		case err != nil:
			failed = append(failed, err)
		}
	}
	switch {
	case len(failed) > 0:
		return errors.Join(failed...)
	case len(unknown) == len(all):
		return errors.Join(unknown...)
	}
	return nil
}

// listed prints what there is, also when some broker could not be asked; that is said after it.
func listed(err error, n int, print func() error) error {
	if err != nil && n == 0 {
		return err
	}
	return cmp.Or(print(), err)
}

// one returns the only broker: for what numbers mean, or an order is about, differs from broker to broker.
func (g *globals) one(ctx context.Context, topic string) (desk, error) {
	all, err := g.desks(ctx, topic)
	if err != nil {
		return desk{}, err
	}
	if len(all) > 1 {
		return desk{}, usage("there are %d brokers%s, and this is about one: name it with --broker or --admin", len(all), ofTopic(topic))
	}
	return all[0], nil
}

// signature are the flags of who gives orders.
type signature struct{ by, reason string }

func (s *signature) register(cmd *cobra.Command, user string) {
	cmd.Flags().StringVar(&s.by, "by", user, "`NAME` that the broker notes; without one it notes the address")
	cmd.Flags().StringVar(&s.reason, "reason", "", "`TEXT` that the broker notes")
}

func (s *signature) note() operate.Note { return operate.Note{By: s.by, Reason: s.reason} }

// path escapes the parts of a path.
func path(parts ...string) string {
	escaped := ""
	for _, p := range parts {
		escaped += "/" + url.PathEscape(p)
	}
	return escaped
}
