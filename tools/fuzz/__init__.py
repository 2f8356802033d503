"""Programs that attack the project with damaged and hostile input."""
