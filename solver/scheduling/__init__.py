"""Who starts when: the steps of a project, and the tasks that wait for room."""
