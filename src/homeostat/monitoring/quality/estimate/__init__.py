"""Quality without labels: what a metric is likely to be, whether that may be believed, and nothing
more. An estimate is no measurement: it has its own type (`model.Estimated`), is no verdict, and
so can pass no gate and no quality check.

model      what is said: the figure, its standing, and the checks of its assumptions
masses     a metric of rows that are positive in part only, with the influence of each row
calibrate  scores -> probabilities: isotonic, and isotonic's rival that also looks at the features
ratio      how traffic differs from the reference: density ratio, domain AUC, support
labelshift the same features per class, another mix of the classes
loss       the expected loss of a regression
service    all of them on one window, held against each other and against the last labels
"""
