"""Speed, memory and accuracy of clusterwise beside the program one would otherwise run."""
