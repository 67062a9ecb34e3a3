package registry

import "strings"

// The znodes that everything else lies below. Existing clients look for exactly these names.
const (
	RootNode  = "/kiteq"
	TopicsDir = RootNode + "/server"        // one node per topic, with the brokers that serve it
	AliveDir  = RootNode + "/alive_servers" // the brokers that run
	KnownDir  = RootNode + "/all_servers"   // the brokers that ever ran
	PubDir    = RootNode + "/pub"           // the producers of each topic, for operators
	SubDir    = RootNode + "/sub"           // the bindings of each topic
	PeersDir  = RootNode + "/peers"         // the brokers that share a store; no client looks here
)

const bindSuffix = "-bind"

// TopicNode is the persistent node whose children are the brokers of the topic.
func TopicNode(topic string) string { return TopicsDir + "/" + topic }

// BrokerNode is the ephemeral node that says that the broker at addr serves the topic.
func BrokerNode(topic, addr string) string { return TopicNode(topic) + "/" + addr }

// AliveNode is the ephemeral node of a running broker.
func AliveNode(addr string) string { return AliveDir + "/" + addr }

// KnownNode is the persistent node of a broker; nobody deletes it.
func KnownNode(addr string) string { return KnownDir + "/" + addr }

// PeerNode is the ephemeral node of a running broker that shares its store with others.
func PeerNode(id string) string { return PeersDir + "/" + id }

// ProducersNode is the persistent node below which the producers of the topic are, by group.
func ProducersNode(topic string) string { return PubDir + "/" + topic }

// ProducerNode is the ephemeral node that says that the group publishes to the topic from host.
func ProducerNode(topic, group, host string) string {
	return ProducersNode(topic) + "/" + group + "/" + host
}

// BindingsNode is the persistent node whose children are the bind nodes of the topic.
func BindingsNode(topic string) string { return SubDir + "/" + topic }

// BindingNode is the persistent node that holds the bindings of the group on the topic.
func BindingNode(topic, group string) string { return BindingsNode(topic) + "/" + group + bindSuffix }

// GroupOfNode returns the group whose bind node has this name, without its path. It is false for
// other nodes, which brokers pass over.
func GroupOfNode(name string) (group string, ok bool) {
	group, ok = strings.CutSuffix(name, bindSuffix)
	return group, ok && group != ""
}

// Persistent lists the nodes of the topic that exist before its first broker, parents first.
func Persistent(topic string) []string {
	return []string{TopicNode(topic), BindingsNode(topic), ProducersNode(topic)}
}

// Ancestors lists the nodes above path, the topmost first.
func Ancestors(path string) []string {
	var above []string
	for i := 1; i < len(path); i++ {
		if path[i] == '/' {
			above = append(above, path[:i])
		}
	}
	return above
}
