package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kiteq/kiteq/internal/kite"
	"github.com/kiteq/kiteq/store/mmap"
)

// topicSync is how the messages of single topics are synced, by topic: "always" or "os". As a flag it is
// written trade=always,logs=os.
type topicSync map[string]string

func (t *topicSync) String() string {
	pairs := make([]string, 0, len(*t))
	for _, topic := range slices.Sorted(maps.Keys(*t)) {
		pairs = append(pairs, topic+"="+(*t)[topic])
	}
	return strings.Join(pairs, ",")
}

// Set replaces the topics.
func (t *topicSync) Set(text string) error {
	*t = topicSync{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		topic, sync, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("%q: write topic=always or topic=os", part)
		}
		if _, twice := (*t)[topic]; twice {
			return fmt.Errorf("%q is named twice", topic)
		}
		(*t)[topic] = sync
	}
	return nil
}

// classOf returns the class that a topic's sync stands for, "" for what is none.
func classOf(sync string) kite.Class {
	switch sync {
	case mmap.SyncAlways.String():
		return kite.ClassSynced
	case mmap.SyncOS.String():
		return kite.ClassWritten
	}
	return ""
}

// Classes returns the durability class of each topic that Sync names.
func (c *Config) Classes() map[string]kite.Class {
	classes := make(map[string]kite.Class, len(c.Sync))
	for topic, sync := range c.Sync {
		classes[topic] = classOf(sync)
	}
	return classes
}

func (c *Config) validateSync(bad func(format string, args ...any)) {
	for _, topic := range slices.Sorted(maps.Keys(c.Sync)) {
		if err := kite.CheckTopic(topic); err != nil {
			bad("-sync: %w", err)
		}
		if classOf(c.Sync[topic]) == "" {
			bad("-sync: %q for topic %s: use always or os", c.Sync[topic], topic)
		}
	}
}

// unserved notes the topics of Sync that are not served. That is no error, for a reload may serve them.
func (c *Config) unserved() (notes []string) {
	for _, topic := range slices.Sorted(maps.Keys(c.Sync)) {
		if !slices.Contains(c.Topics, topic) {
			notes = append(notes, fmt.Sprintf("sync of topic %s: it is not among the topics that are served", topic))
		}
	}
	return notes
}
