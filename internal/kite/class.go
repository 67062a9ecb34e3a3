package kite

// Class names what an acknowledgement says about durability.
type Class string

// The durability classes.
const (
	ClassSynced  Class = "synced"  // on disk: fdatasync returned
	ClassWritten Class = "written" // in the page cache of the operating system
	ClassMem     Class = "mem"     // in the broker's memory
	ClassMySQL   Class = "mysql"   // committed by the configured database
)

// Classes says what is promised for each topic.
type Classes struct {
	Store  Class            // of every topic that is not named
	Topics map[string]Class // the others; nobody changes it
}

// Of returns the class of the topic's messages and of the decisions about them.
func (c *Classes) Of(topic string) Class {
	if class, ok := c.Topics[topic]; ok {
		return class
	}
	return c.Store
}
