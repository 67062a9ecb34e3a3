package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// original reads the tables of an original KiteQ's file into the Config (interop contract §9.2):
//
//	[registry.<env>]          hosts
//	[clusters.<clusterName>]  env, topics, db, ...
//
// The chosen cluster's env chooses the registry. The other clusters are not looked at but for the names of
// their keys: a misspelt key is one in every cluster.
type original struct {
	document
	cluster string
	ours    func(key ...string) bool // tells whether the file sets a key of ours
	bad     func(format string, args ...any)
}

// clusterKey is one key of a cluster.
type clusterKey struct {
	name string
	// ours is the key of ours that says the same; only one of them may be set.
	ours []string
	// adopt takes the value; its error says what is allowed.
	adopt func(value any) error
	// idle says why the key means nothing here, "" for one that does.
	idle string
}

// keys are all keys of a cluster but env, in the order of the shipped file.
func (o *original) keys() []clusterKey {
	c := o.Config
	nothing := func(int) {}
	return []clusterKey{
		{name: "topics", ours: []string{"topics"}, adopt: names(&c.Topics)},
		{name: "dlqExecHour", adopt: whole(0, 23, nothing), idle: "dead letters are written at once, not by the hour"},
		{name: "deliveryFirst", ours: []string{"delivery_first"}, adopt: boolean(&c.DeliveryFirst)},
		{name: "logxml", ours: []string{"log_xml"}, adopt: text(&c.LogXML)},
		{name: "db", ours: []string{"db"}, adopt: text(&c.Store)},
		{name: "deliverySeconds", ours: []string{"delivery", "ack_timeout"}, adopt: whole(1, 3600, func(n int) {
			c.Delivery.AckTimeout = time.Duration(n) * time.Second
		})},
		{name: "maxDeliverWorkers", adopt: whole(1, maxAccept, nothing), idle: "in_flight and delivery.window bound the deliveries"},
		{name: "recoverSeconds", adopt: whole(1, 86400, nothing), idle: "a message is sent again when it is due, not in rounds"},
		{name: "recievePermitsPerSecond", ours: []string{"accept_per_second"}, adopt: whole(0, maxAccept, o.permits)},
	}
}

// adopt takes over the chosen cluster and its registry.
func (o *original) adopt() {
	keys := o.keys()
	for _, name := range slices.Sorted(maps.Keys(o.Clusters)) {
		for _, key := range slices.Sorted(maps.Keys(o.Clusters[name])) {
			if key != "env" && !slices.ContainsFunc(keys, func(k clusterKey) bool { return k.name == key }) {
				o.bad("key %q is not known: remove it or correct its name", "clusters."+name+"."+key)
			}
		}
	}
	o.ClusterName = o.cluster
	cluster, ok := o.Clusters[o.cluster]
	if !ok {
		o.bad("there is no cluster %q, but %s: choose one with -clusterName", o.cluster, tables(o.Clusters))
		return
	}
	for _, key := range keys {
		if value, ok := cluster[key.name]; ok {
			o.take(key, value)
		}
	}
	o.registry(cluster["env"])
}

func (o *original) take(key clusterKey, value any) {
	name := "clusters." + o.cluster + "." + key.name
	if key.ours != nil && o.ours(key.ours...) {
		o.bad("%s and %s say the same: keep one of them", strings.Join(key.ours, "."), name)
		return
	}
	switch err := key.adopt(value); {
	case err != nil:
		o.bad("%s: %w", name, err)
	case key.idle != "":
		o.Notes = append(o.Notes, fmt.Sprintf("%s=%v means nothing here: %s", key.name, value, key.idle))
	}
}

// registry takes the hosts that the cluster's env names.
func (o *original) registry(env any) {
	for _, name := range slices.Sorted(maps.Keys(o.Registries)) {
		for _, key := range slices.Sorted(maps.Keys(o.Registries[name])) {
			if key != "hosts" {
				o.bad("key %q is not known: only hosts is", "registry."+name+"."+key)
			}
		}
	}
	if env == nil {
		o.bad("clusters.%s.env is missing: name the registry there, one of %s", o.cluster, tables(o.Registries))
		return
	}
	var name string
	if err := text(&name)(env); err != nil {
		o.bad("clusters.%s.env: %w", o.cluster, err)
		return
	}
	registry, ok := o.Registries[name]
	switch {
	case !ok:
		o.bad("clusters.%s.env %q: there is no such registry, but %s", o.cluster, name, tables(o.Registries))
	case o.ours("zkhost"):
		o.bad("zkhost and registry.%s.hosts say the same: keep one of them", name)
	default:
		if err := text(&o.ZKHost)(registry["hosts"]); err != nil {
			o.bad("registry.%s.hosts: %w", name, err)
		}
	}
}

// permits takes the accept rate. 0 and 1 refused every publish in the original, by rounding: nobody can
// have meant that, so they mean no limit.
func (o *original) permits(n int) {
	if n <= 1 {
		o.Notes = append(o.Notes, fmt.Sprintf("recievePermitsPerSecond=%d means no limit here; the original refused every publish with it", n))
		n = 0
	}
	o.AcceptPerSecond = n
}

func names(to *[]string) func(any) error {
	return func(value any) error {
		values, ok := value.([]any)
		list := make([]string, len(values))
		for i := range values {
			if list[i], ok = values[i].(string); !ok {
				break
			}
		}
		if !ok {
			return fmt.Errorf("%v: write a list of names, as in [\"trade\", \"fee\"]", value)
		}
		*to = list
		return nil
	}
}

func text(to *string) func(any) error {
	return func(value any) error {
		s, ok := value.(string)
		if !ok {
			return fmt.Errorf("%v: write a text in quotes", value)
		}
		*to = s
		return nil
	}
}

func boolean(to *bool) func(any) error {
	return func(value any) error {
		b, ok := value.(bool)
		if !ok {
			return fmt.Errorf("%v: write true or false", value)
		}
		*to = b
		return nil
	}
}

func whole(from, to int64, adopt func(int)) func(any) error {
	return func(value any) error {
		n, ok := value.(int64)
		if !ok || n < from || n > to {
			return fmt.Errorf("%v: write a whole number from %d to %d", value, from, to)
		}
		adopt(int(n))
		return nil
	}
}

// tables lists their names.
func tables(named map[string]map[string]any) string {
	if len(named) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(named)), ", ")
}
