package policy

// PublishSpec is a stub replaced by the policy author.
type PublishSpec struct{}
